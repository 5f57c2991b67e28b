using Experiments.Results.Outcomes;

namespace Experiments.Grains;

/// <summary>Runs one shard's kernels on the silo it is activated on.</summary>
/// <remarks>
/// Key: "sweepId/shard/epoch/node". <see cref="Start"/> puts the shard on the silo's compute threads and returns at once; no turn of
/// it ever waits for a kernel. Calling again with the same lease starts nothing twice. It holds no state, and goes away
/// after each call. Each lease has its own, which is therefore nowhere before the holder asks for it, and is made on the silo that asks.
/// </remarks>
[Alias(Aliases.ShardGrain)]
public interface IShardGrain : IGrainWithStringKey
{
    /// <summary>Begins the shard under a lease that this silo's worker holds.</summary>
    [Alias("Start"), ResponseTimeout("00:00:10")]
    Task<ShardStart> Start(ShardLease lease, CancellationToken cancellation = default);
}

[GenerateSerializer, Alias(Aliases.ShardStart)]
public enum ShardStart
{
    /// <summary>It is queued or running, by this call or an earlier one with the same lease.</summary>
    Begun,

    /// <summary>This silo's worker holds no such lease: the activation is on the wrong silo, or the lease is over. The
    /// activation is going away; ask once more.</summary>
    NotHere,
}
