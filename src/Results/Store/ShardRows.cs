using Experiments.Results.Outcomes;

namespace Experiments.Results.Store;

/// <summary>A shard's outcomes as the bytes that its commit sends.</summary>
/// <remarks>
/// Each is written as soon as its lane has it, and forgotten: kept as objects until the commit, some fifty fields each, they were what the
/// collector moved from one generation to the next all the time, a tenth of both cores where trials are tiny.
/// For one thread at a time; a commit that is tried again sends the same bytes.
/// </remarks>
public sealed class ShardRows : IOutcomes, IDisposable
{
    private const int UsualBytesOfTrial = 450;
    private const int UsualBytesOfSamples = 150;
    private const int MostBytesAtOnce = 1 << 22;

    private readonly TrialColumns _columns;
    private readonly bool[] _seen;
    private CopyBuffer? _trials;
    private CopyBuffer? _samples;
    private bool _complete;
    private bool _disposed;

    /// <param name="lease">The shard, and by what right it is run.</param>
    /// <param name="nodeId">The silo's row in <c>node</c>.</param>
    /// <param name="traceId">The shard's trace; every row carries it.</param>
    public ShardRows(ShardLease lease, int nodeId, Guid traceId)
    {
        ArgumentNullException.ThrowIfNull(lease);
        (Lease, NodeId, TraceId) = (lease, nodeId, traceId);
        _columns = new TrialColumns(lease, nodeId, traceId);
        _seen = new bool[lease.Trials];
    }

    public ShardLease Lease { get; }

    public int NodeId { get; }

    public Guid TraceId { get; }

    /// <summary>How many were added, and how many of them are done and have failed; the others were skipped.</summary>
    public int Count { get; private set; }

    public int Done { get; private set; }

    public int Failed { get; private set; }

    public int Skipped => Count - Done - Failed;

    /// <summary>What the trials that were added are of, and how many of each.</summary>
    public IReadOnlyDictionary<StoredConfiguration, int> Configurations => _columns.Configurations();

    /// <summary>The numbers of the trials that were added.</summary>
    internal long[] Trials => [.. _seen.Index().Where(s => s.Item).Select(s => Lease.FirstTrial + s.Index)];

    /// <summary>All of <c>trial</c>'s rows and of <c>sample</c>'s, as COPY takes them; empty where there are none.</summary>
    internal ReadOnlyMemory<byte> TrialBytes => Complete(_trials);

    /// <inheritdoc cref="TrialBytes"/>
    internal ReadOnlyMemory<byte> SampleBytes => Complete(_samples);

    /// <summary>All of a shard's outcomes at once.</summary>
    /// <exception cref="ArgumentException">One is not the shard's, or comes twice.</exception>
    public static ShardRows Of(ShardLease lease, int nodeId, Guid traceId, IEnumerable<TrialOutcome> outcomes)
    {
        ArgumentNullException.ThrowIfNull(outcomes);
        ShardRows rows = new(lease, nodeId, traceId);
        foreach (TrialOutcome outcome in outcomes)
        {
            rows.Add(outcome);
        }

        return rows;
    }

    public void Add(TrialOutcome outcome)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        if (outcome.Trial < Lease.FirstTrial || outcome.Trial >= Lease.FirstTrial + Lease.Trials)
        {
            throw new ArgumentException(
                $"Trial {outcome.Trial} does not belong to shard {Lease.Shard} of sweep {Lease.SweepId}, which holds trials "
                + $"{Lease.FirstTrial} to {Lease.FirstTrial + Lease.Trials - 1}.", nameof(outcome));
        }

        ref bool already = ref _seen[outcome.Trial - Lease.FirstTrial];
        if (already)
        {
            throw new ArgumentException($"Trial {outcome.Trial} comes twice in one commit.", nameof(outcome));
        }

        if (_complete)
        {
            throw new InvalidOperationException($"Trial {outcome.Trial} comes after shard {Lease.Shard} of sweep {Lease.SweepId} was sent.");
        }

        _columns.Write(_trials ??= new CopyBuffer(Capacity(UsualBytesOfTrial)), outcome);
        if (outcome.Samples is { Length: > 0 } samples)
        {
            _samples ??= new CopyBuffer(Capacity(UsualBytesOfSamples));
            _samples.StartRow(4);
            _samples.Long(Lease.SweepId);
            _samples.Long(outcome.Trial);
            _samples.Int(Lease.Shard);
            _samples.Doubles(samples);
        }

        already = true;
        Count++;
        Done += outcome.Status == TrialStatus.Done ? 1 : 0;
        Failed += outcome.Status == TrialStatus.Failed ? 1 : 0;
    }

    /// <summary>Gives the memory back; only when no commit sends it any more.</summary>
    public void Dispose()
    {
        _complete = _disposed = true;
        _trials?.Dispose();
        _samples?.Dispose();
    }

    private int Capacity(int each) => (int)Math.Min(MostBytesAtOnce, (long)Lease.Trials * each);

    private ReadOnlyMemory<byte> Complete(CopyBuffer? rows)
    {
        // A commit of none of the rows that it counts would lose them without a word.
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!_complete)
        {
            _complete = true;
            _trials?.End();
            _samples?.End();
        }

        return rows?.Bytes ?? default;
    }
}
