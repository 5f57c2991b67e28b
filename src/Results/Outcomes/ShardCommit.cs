namespace Experiments.Results.Outcomes;

/// <summary>The right to run one shard, until it is renewed, released, committed or fenced.</summary>
/// <param name="Epoch">The fencing token: grows with every grant.</param>
/// <param name="StoredTrials">How many of its trials are stored already (a retry or an extension): those are not run again.</param>
public sealed record ShardLease(
    long SweepId, int Shard, int Epoch, long FirstInstance, long EndInstance, long FirstTrial, int Trials, int StoredTrials);

/// <summary>Everything of one shard that is stored in one transaction.</summary>
/// <param name="TraceId">The shard's trace; every outcome's row carries it.</param>
public sealed record ShardCommit(
    ShardLease Lease,
    int NodeId,
    Guid TraceId,
    IReadOnlyList<TrialOutcome> Outcomes,
    IReadOnlyList<SpanRecord> Spans,
    IReadOnlyList<ReferenceRecord> References);

public enum CommitResult
{
    /// <summary>Stored now, or stored before by this very lease whose acknowledgement was lost.</summary>
    Stored,

    /// <summary>Another lease holds or has stored the shard; nothing was written and the outcomes must be dropped.</summary>
    Fenced,
}
