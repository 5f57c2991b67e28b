using System.Diagnostics;
using Experiments.Grains.Running;
using Experiments.Results.Outcomes;
using Orleans.Placement;

namespace Experiments.Grains;

/// <inheritdoc cref="IShardGrain"/>
[PreferLocalPlacement]
[KeepAlive]
public sealed class ShardGrain(ShardHost host) : Grain, IShardGrain
{
    public Task<ShardStart> Start(ShardLease lease, CancellationToken cancellation)
    {
        // The span of this very call is the parent of all that the shard computes; it does not flow to a lane by itself.
        bool begun = host.Begin(lease, Activity.Current?.Context ?? default);
        DeactivateOnIdle();
        return Task.FromResult(begun ? ShardStart.Begun : ShardStart.NotHere);
    }
}
