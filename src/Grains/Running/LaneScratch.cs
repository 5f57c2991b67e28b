using System.Diagnostics;
using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>What a lane keeps from trial to trial, so that a small trial allocates next to nothing.</summary>
internal sealed class LaneScratch
{
    // The timer is armed this much later than asked, and then serves every trial that begins within that slack: re-arming
    // once in 64th parts of the timeout instead of at every trial.
    private const double Slack = 1.0 / 64;

    private readonly Dictionary<int, KernelContext> _timed = [];
    private readonly Dictionary<int, KernelContext> _told = [];
    private readonly List<Phase> _phases = [];
    private readonly Action<string> _onPhase;
    private GradientOutput<float>? _output32;
    private GradientOutput<double>? _output64;
    private GradientOutput<double>? _reference;
    private (int N, int D) _referenceShape;
    private (int N, int D) _shape32;
    private (int N, int D) _shape64;
    private CancellationTokenSource? _timeout;
    private CancellationToken _owner;
    private long _deadline;

    public LaneScratch() => _onPhase = OnPhase;

    /// <summary>The phases of the last call that was made with them, in order.</summary>
    public List<Phase> Phases => _phases;

    public List<TrialRun> Trials { get; } = [];

    /// <summary>The configurations of the shard that is on the lane. Its instances share them, object by object.</summary>
    public Dictionary<TrialSpec, Configuration> Configurations { get; } = new(ReferenceEqualityComparer.Instance);

    /// <summary>Whether the armed limit has fired.</summary>
    public bool TimedOut => _timeout is { IsCancellationRequested: true };

    /// <summary>A buffer of the shape: the last one where it fits, since a shard's instances mostly share theirs.</summary>
    public GradientOutput<T> Output<T>(int n, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (typeof(T) == typeof(float))
        {
            if (_output32 is null || _shape32 != (n, d))
            {
                (_output32, _shape32) = (new GradientOutput<float>(n, d), (n, d));
            }

            return (GradientOutput<T>)(object)_output32;
        }

        if (_output64 is null || _shape64 != (n, d))
        {
            (_output64, _shape64) = (new GradientOutput<double>(n, d), (n, d));
        }

        return (GradientOutput<T>)(object)_output64;
    }

    /// <summary>Where the reference is written: kept apart, since it is compared with while the trials write theirs.</summary>
    public GradientOutput<double> Reference(int n, int d)
    {
        if (_reference is null || _referenceShape != (n, d))
        {
            (_reference, _referenceShape) = (new GradientOutput<double>(n, d), (n, d));
        }

        return _reference;
    }

    /// <summary>Lets go of what the shard made, above a size that is worth keeping.</summary>
    public void Trim()
    {
        const int Keep = 1 << 20;
        Trials.Clear();
        Configurations.Clear();
        if (_output32 is not null && _output32.Forward.Length > Keep)
        {
            _output32 = null;
        }

        if (_output64 is not null && _output64.Forward.Length > Keep)
        {
            _output64 = null;
        }

        if (_reference is not null && _reference.Forward.Length > Keep)
        {
            _reference = null;
        }
    }

    /// <summary>From now on, contexts are cancelled after <paramref name="remaining"/> or with the owner.</summary>
    public void Arm(TimeSpan remaining, TimeSpan limit, CancellationToken owner)
    {
        if (_timeout is null || _timeout.IsCancellationRequested || _owner != owner)
        {
            _timeout?.Dispose();
            _timeout = CancellationTokenSource.CreateLinkedTokenSource(owner);
            _owner = owner;
            _deadline = 0;
            _timed.Clear();
            _told.Clear();
        }

        // CancelAfter takes at most some 49 days; a limit beyond that is none.
        TimeSpan longest = TimeSpan.FromDays(40);
        long now = Stopwatch.GetTimestamp();
        double wanted = Math.Min(remaining.TotalSeconds, longest.TotalSeconds);
        double slack = Math.Min(limit.TotalSeconds, longest.TotalSeconds) * Slack;
        double armed = (_deadline - now) / (double)Stopwatch.Frequency;
        if (armed < wanted || armed > wanted + slack)
        {
            _timeout.CancelAfter(TimeSpan.FromSeconds(wanted + slack));
            _deadline = now + (long)((wanted + slack) * Stopwatch.Frequency);
        }
    }

    /// <summary>A context under the armed limit. With <paramref name="phases"/>, the phases of the call are noted.</summary>
    public KernelContext Context(int threads, bool phases)
    {
        Dictionary<int, KernelContext> contexts = phases ? _told : _timed;
        if (!contexts.TryGetValue(threads, out KernelContext? context))
        {
            context = new KernelContext(_timeout!.Token, threads, phases ? _onPhase : null);
            contexts.Add(threads, context);
        }

        return context;
    }

    public void BeginPhases() => _phases.Clear();

    public void EndPhases(long now)
    {
        if (_phases.Count > 0)
        {
            _phases[^1] = _phases[^1] with { End = now };
        }
    }

    private void OnPhase(string name)
    {
        long now = Stopwatch.GetTimestamp();
        EndPhases(now);
        _phases.Add(new Phase(name, now, now));
    }
}

/// <summary>A phase of one kernel call, in stopwatch ticks.</summary>
internal readonly record struct Phase(string Name, long Start, long End);
