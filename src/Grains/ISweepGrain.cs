using Experiments.Results.Outcomes;
using Orleans.Concurrency;

namespace Experiments.Grains;

/// <summary>Hands out the shards of one sweep.</summary>
/// <remarks>
/// Key: the sweep's id. Holds a ledger of the sweep's shards, a cache of the store's rows that one SELECT rebuilds; every
/// grant is made by the store, under an epoch. So two activations at once, or one in each of two clusters, do no harm.
/// </remarks>
[Alias(Aliases.SweepGrain)]
public interface ISweepGrain : IGrainWithIntegerKey
{
    /// <summary>Leases up to the wanted number of shards to a node, after noting what the node has finished since it last
    /// asked. Asking again with the same sequence number returns the same leases and grants nothing.</summary>
    /// <remarks>Where another silo could lead the sweep the grain answers within 10 s, whatever the store does. Who has heard nothing by then asks
    /// again, since a message that was under way through a silo that died is lost without a word.</remarks>
    [Alias("Take"), ResponseTimeout("00:00:12")]
    Task<LeaseGrant> Take(LeaseRequest request, CancellationToken cancellation = default);

    /// <summary>How the ledger stands. Changes nothing, waits for nothing.</summary>
    [Alias("Progress"), AlwaysInterleave, ResponseTimeout("00:00:05")]
    ValueTask<LedgerProgress> Progress();
}

/// <param name="NodeId">The asking node's row in the store.</param>
/// <param name="Sequence">Grows with every request of the node; the same number is the same request.</param>
/// <param name="Wanted">Most shards to grant; 0 only reports.</param>
/// <param name="Duration">How long the leases last unless renewed.</param>
/// <param name="Committed">What the node has stored since its last request.</param>
/// <param name="Released">What it has given back since.</param>
/// <param name="FreeBytes">What it had free at its start: shards that need more are asked for last.</param>
/// <param name="Cores">That it can pin threads to, likewise.</param>
/// <param name="IsIdle">It has nothing else to do: where all is leased, it may have what another holds for too long, beside that one.</param>
[GenerateSerializer, Immutable, Alias(Aliases.LeaseRequest)]
public sealed record LeaseRequest(
    [property: Id(0)] int NodeId,
    [property: Id(1)] long Sequence,
    [property: Id(2)] int Wanted,
    [property: Id(3)] TimeSpan Duration,
    [property: Id(4)] ShardLease[] Committed,
    [property: Id(5)] ShardLease[] Released,
    [property: Id(6)] double FreeBytes = double.PositiveInfinity,
    [property: Id(7)] int Cores = int.MaxValue,
    [property: Id(8)] bool IsIdle = false);

/// <param name="Leases">Longest predicted first.</param>
/// <param name="SweepDone">Every shard is done in the store, and the sweep with them.</param>
[GenerateSerializer, Immutable, Alias(Aliases.LeaseGrant)]
public sealed record LeaseGrant([property: Id(0)] ShardLease[] Leases, [property: Id(1)] bool SweepDone)
{
    /// <summary>Why the grain's silo cannot use the store now, in which case nothing was noted or granted; else null.</summary>
    [Id(2)]
    public string? StoreAway { get; init; }
}

[GenerateSerializer, Immutable, Alias(Aliases.LedgerProgress)]
public sealed record LedgerProgress(
    [property: Id(0)] int Total, [property: Id(1)] int Ready, [property: Id(2)] int Leased, [property: Id(3)] int Done);

/// <summary>A lease on the wire: <see cref="ShardLease"/> belongs to a room that knows no Orleans.</summary>
[GenerateSerializer, Immutable, Alias(Aliases.ShardLease)]
public readonly record struct ShardLeaseSurrogate(
    [property: Id(0)] long SweepId,
    [property: Id(1)] int Shard,
    [property: Id(2)] int Epoch,
    [property: Id(3)] long FirstInstance,
    [property: Id(4)] long EndInstance,
    [property: Id(5)] long FirstTrial,
    [property: Id(6)] int Trials,
    [property: Id(7)] int StoredTrials,
    [property: Id(8)] int Part,
    [property: Id(9)] int[]? Only,
    [property: Id(10)] int Deaths,
    [property: Id(11)] bool SweepIsolated);

[RegisterConverter]
public sealed class ShardLeaseConverter : IConverter<ShardLease, ShardLeaseSurrogate>
{
    public ShardLease ConvertFromSurrogate(in ShardLeaseSurrogate surrogate) => new(
        surrogate.SweepId, surrogate.Shard, surrogate.Epoch, surrogate.FirstInstance, surrogate.EndInstance,
        surrogate.FirstTrial, surrogate.Trials, surrogate.StoredTrials)
    {
        Part = surrogate.Part,
        Only = surrogate.Only,
        Deaths = surrogate.Deaths,
        SweepIsolated = surrogate.SweepIsolated,
    };

    public ShardLeaseSurrogate ConvertToSurrogate(in ShardLease value) => new(
        value.SweepId, value.Shard, value.Epoch, value.FirstInstance, value.EndInstance,
        value.FirstTrial, value.Trials, value.StoredTrials, value.Part, value.Only is null ? null : [.. value.Only],
        value.Deaths, value.SweepIsolated);
}
