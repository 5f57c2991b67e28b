using System.Diagnostics;
using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>What a lane keeps from trial to trial, so that a small trial allocates next to nothing.</summary>
internal sealed class LaneScratch
{
    // The timer is armed this much later than asked, and then serves every trial that begins within that slack: re-arming
    // once in 64th parts of the timeout instead of at every trial.
    private const double Slack = 1.0 / 64;

    private readonly Dictionary<(int Threads, CallKind Kind), KernelContext> _contexts = [];
    private readonly List<Phase> _phases = [];
    private readonly Action<string> _onPhase;
    private readonly OutputBuffer<float> _single = new();
    private readonly OutputBuffer<double> _double = new();
    private readonly OutputBuffer<double> _reference = new();
    private CancellationTokenSource? _timeout;
    private CancellationToken _owner;
    private long _deadline;

    public LaneScratch() => _onPhase = OnPhase;

    /// <summary>Which of <see cref="Pinning.Cores"/> pinned trials of the shard may have: the index of the first, and how many.</summary>
    public (int First, int Count) Cores { get; set; }

    /// <summary>The phases of the last call that was made with them, in order.</summary>
    public List<Phase> Phases => _phases;

    public List<TrialRun> Trials { get; } = [];

    /// <summary>The configurations of the shard that is on the lane. Its instances share them, object by object.</summary>
    public Dictionary<TrialSpec, Configuration> Configurations { get; } = new(ReferenceEqualityComparer.Instance);

    /// <summary>Whether the armed limit has fired.</summary>
    public bool TimedOut => _timeout is { IsCancellationRequested: true };

    /// <summary>Buffers of the shape, one a problem: the last ones where they fit, since a shard's instances mostly share theirs.</summary>
    public GradientOutput<T>[] Outputs<T>(CallShape shape)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        BufferOf<T>().Of(shape);

    /// <summary>The same buffers with dQ, dK and dV asked for.</summary>
    public GradientOutput<T>[] OutputsWithAll<T>(CallShape shape)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => BufferOf<T>().WithAll(shape);

    /// <summary>The same buffers with dQ asked for, which timed calls do without.</summary>
    public GradientOutput<T>[] OutputsWithDQ<T>(CallShape shape)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => BufferOf<T>().WithDQ(shape);

    /// <summary>Where the reference is written: kept apart, since it is compared with while the trials write theirs.</summary>
    public GradientOutput<double>[] Reference(CallShape shape, bool dQ, bool all) =>
        all ? _reference.WithAll(shape) : dQ ? _reference.WithDQ(shape) : _reference.Of(shape);

    /// <summary>Lets go of what the shard made, above a size that is worth keeping.</summary>
    public void Trim()
    {
        Trials.Clear();
        Configurations.Clear();
        _single.Trim();
        _double.Trim();
        _reference.Trim();
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
            _contexts.Clear();
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

    /// <summary>A context under the armed limit.</summary>
    public KernelContext Context(int threads, CallKind kind)
    {
        if (!_contexts.TryGetValue((threads, kind), out KernelContext? context))
        {
            context = new KernelContext(_timeout!.Token, threads, kind == CallKind.Judged ? _onPhase : null)
            {
                Statistics = kind != CallKind.Timed,
            };
            _contexts.Add((threads, kind), context);
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

    private OutputBuffer<T> BufferOf<T>()
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        (OutputBuffer<T>)(typeof(T) == typeof(float) ? _single : (object)_double);

    private void OnPhase(string name)
    {
        long now = Stopwatch.GetTimestamp();
        EndPhases(now);
        _phases.Add(new Phase(name, now, now));
    }
}

/// <summary>What a call is made for.</summary>
internal enum CallKind
{
    /// <summary>Its time: nothing is asked of it that costs any.</summary>
    Timed,

    /// <summary>A trial's errors and facts, the logits' among them; its phases are noted.</summary>
    Judged,

    /// <summary>The reference, with the facts of the logits.</summary>
    Reference,
}

/// <summary>The outputs of one call, used again while the shape stays.</summary>
internal sealed class OutputBuffer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private GradientOutput<T>[] _outputs = [], _withDQ = [], _withAll = [];
    private (int N, int D) _shape;

    public GradientOutput<T>[] Of(CallShape shape)
    {
        if (_outputs.Length != shape.Parts || _shape != (shape.N, shape.D))
        {
            _outputs = _withDQ = _withAll = [];
            GradientOutput<T>[] made = new GradientOutput<T>[shape.Parts];
            for (int part = 0; part < made.Length; part++)
            {
                made[part] = new GradientOutput<T>(shape.N, shape.D);
            }

            (_outputs, _shape) = (made, (shape.N, shape.D));
        }

        return _outputs;
    }

    public GradientOutput<T>[] WithDQ(CallShape shape)
    {
        GradientOutput<T>[] outputs = Of(shape);
        if (_withDQ.Length != outputs.Length)
        {
            _withDQ = [.. outputs.Select(o => o.Asking(new T[o.Forward.Length]))];
        }

        return _withDQ;
    }

    public GradientOutput<T>[] WithAll(CallShape shape)
    {
        GradientOutput<T>[] outputs = Of(shape);
        if (_withAll.Length != outputs.Length)
        {
            _withAll = [.. outputs.Select(o => o.AskingForAll())];
        }

        return _withAll;
    }

    /// <summary>Lets go of more than is worth keeping.</summary>
    public void Trim()
    {
        const int Keep = 1 << 20;
        if ((long)_outputs.Length * _shape.N * _shape.D > Keep)
        {
            _outputs = _withDQ = _withAll = [];
        }
    }
}

/// <summary>A phase of one kernel call, in stopwatch ticks.</summary>
internal readonly record struct Phase(string Name, long Start, long End);
