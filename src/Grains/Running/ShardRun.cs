using System.Diagnostics;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>What a shard's computation left to be committed beside its outcomes.</summary>
public sealed record ShardResult(IReadOnlyList<ReferenceRecord> References)
{
    /// <summary>Spans that another process made; this one's own are gathered as they end.</summary>
    public IReadOnlyList<SpanRecord> Spans { get; init; } = [];

    /// <summary>Whether one of the outcomes is that a trial killed its process.</summary>
    public bool Kills { get; init; }
}

/// <summary>A shard does not fit this silo, and its lease has been given back for one that it fits.</summary>
public sealed class ShardHandedOnException() : Exception("The shard was handed on to a silo with more room.");

/// <summary>Computes a shard on the lane's thread that calls it: see <see cref="ShardRunner"/>.</summary>
public interface IShardRunner
{
    ShardResult Run(ShardRun run, Lane lane);
}

/// <summary>Told on the lane's thread how far a shard is, before anything that could end the process.</summary>
internal interface IShardWatch
{
    /// <summary>The instance is about to be drawn and referenced.</summary>
    void Preparing(long instance);

    /// <summary>The trial at a place among its instance's is about to be called.</summary>
    void Calling(long instance, int place);

    void Finished(InstancePlan instance, IReadOnlyList<TrialOutcome> outcomes);
}

/// <summary>A trial by its instance and its place among the instance's trials.</summary>
internal readonly record struct TrialPlace(long Instance, int Place);

/// <summary>One lease's computation: what to run, where its outcomes go, how far it is, and its end.</summary>
public sealed class ShardRun(SweepPlan plan, ShardLease lease, IReadOnlySet<long> stored, IOutcomes outcomes, CancellationToken cancellation)
{
    private readonly TaskCompletionSource<ShardResult> _completion =
        new(TaskCreationOptions.RunContinuationsAsynchronously);

    private int _begun;
    private volatile bool _started;
    private double _nobodyHasBytes = double.PositiveInfinity;
    private int _nobodyHasCores = int.MaxValue;
    private long _ticks;
    private long _done;
    private long _failed;
    private long _skipped;
    private long _referenceHits;

    public SweepPlan Plan { get; } = plan;

    public ShardLease Lease { get; } = lease;

    /// <summary>Trials that are stored already and are not to be run again.</summary>
    public IReadOnlySet<long> Stored { get; } = stored;

    /// <summary>Told of each trial by the lane, once; what it has of a run that was cancelled or failed is not to be committed.</summary>
    public IOutcomes Outcomes { get; } = outcomes;

    /// <summary>Cancelled when the shard is not to be committed, whatever it computes.</summary>
    public CancellationToken Cancellation { get; } = cancellation;

    /// <summary>Called on the lane before anything is computed.</summary>
    public Action? Beginning { get; init; }

    /// <summary>Asked where a trial needs more than this machine has (bytes free at a silo's start, or cores to pin to): true when the lease has been
    /// given back for a silo that has more.</summary>
    public Func<double?, int?, bool>? HandOn { get; init; }

    internal IShardWatch? Watch { get; init; }

    /// <summary>Trials that are not to be called whatever they are needed for: they kill their process.</summary>
    internal IReadOnlySet<TrialPlace>? Barred { get; init; }

    /// <summary>The one trial that is asked for, when it is to be alone.</summary>
    internal TrialPlace? Alone { get; init; }

    /// <summary>The grain call that began it: the parent of its spans.</summary>
    public ActivityContext Parent { get; private set; }

    /// <summary>Whether anyone keeps the shard's spans.</summary>
    public bool IsTraced => Parent.TraceFlags.HasFlag(ActivityTraceFlags.Recorded);

    /// <summary>Whether a lane has taken it up.</summary>
    public bool Started => _started;

    /// <summary>Seconds it had its lane; 0 before it has left it.</summary>
    public double Seconds => Volatile.Read(ref _ticks) / (double)Stopwatch.Frequency;

    /// <summary>Ends when the lane does; cancelled when <see cref="Cancellation"/> is, faulted by our own mistakes alone.</summary>
    public Task<ShardResult> Completion => _completion.Task;

    /// <summary>Whether its outcomes are counted among the committed ones; guarded by whoever counts.</summary>
    internal bool Counted { get; set; }

    public long Done => Volatile.Read(ref _done);

    public long Failed => Volatile.Read(ref _failed);

    public long Skipped => Volatile.Read(ref _skipped);

    public long ReferenceHits => Volatile.Read(ref _referenceHits);

    /// <summary>True for the first caller alone: a shard is queued once, however often its grain is asked.</summary>
    internal bool TryBegin(ActivityContext parent)
    {
        if (Interlocked.Exchange(ref _begun, 1) != 0)
        {
            return false;
        }

        Parent = parent;

        // One that waits for a lane ends at once when it is cancelled, however long the lane is busy.
        Cancellation.UnsafeRegister(
            static run =>
            {
                if (run is ShardRun { Started: false } waiting)
                {
                    waiting._completion.TrySetCanceled(waiting.Cancellation);
                }
            },
            this);
        return true;
    }

    /// <summary>Leaves by exception when another silo has room for what does not fit here. What nobody had room for is not asked for again.</summary>
    /// <exception cref="ShardHandedOnException">The lease is given back.</exception>
    internal void TryHandOn(double? freeBytes, int? cores)
    {
        if (HandOn is null || freeBytes >= _nobodyHasBytes || cores >= _nobodyHasCores)
        {
            return;
        }

        if (HandOn(freeBytes, cores))
        {
            throw new ShardHandedOnException();
        }

        _nobodyHasBytes = Math.Min(_nobodyHasBytes, freeBytes ?? double.PositiveInfinity);
        _nobodyHasCores = Math.Min(_nobodyHasCores, cores ?? int.MaxValue);
    }

    /// <summary>Runs it on the calling thread, a lane's, and reports the end.</summary>
    internal void Execute(IShardRunner runner, Lane lane)
    {
        _started = true;
        long start = Stopwatch.GetTimestamp();
        try
        {
            Cancellation.ThrowIfCancellationRequested();
            Beginning?.Invoke();
            ShardResult result = runner.Run(this, lane);
            Volatile.Write(ref _ticks, Stopwatch.GetTimestamp() - start);
            _completion.TrySetResult(result);
        }
        catch (OperationCanceledException) when (Cancellation.IsCancellationRequested)
        {
            _completion.TrySetCanceled(Cancellation);
        }
        catch (Exception exception)
        {
            // Nothing may escape to the lane's thread; whoever awaits the completion gets it.
            _completion.TrySetException(exception);
        }
    }

    /// <summary>Ends a run that will never be queued.</summary>
    internal void Abandon() => _completion.TrySetCanceled(CancellationToken.None);

    internal void Count(TrialStatus status)
    {
        // One writer, the lane; readers are a live view's.
        switch (status)
        {
            case TrialStatus.Done:
                Volatile.Write(ref _done, _done + 1);
                break;
            case TrialStatus.Failed:
                Volatile.Write(ref _failed, _failed + 1);
                break;
            default:
                Volatile.Write(ref _skipped, _skipped + 1);
                break;
        }
    }

    internal void CountReferenceHit() => Volatile.Write(ref _referenceHits, _referenceHits + 1);
}
