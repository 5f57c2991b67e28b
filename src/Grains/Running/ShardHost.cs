using System.Collections.Concurrent;
using System.Diagnostics;
using Experiments.Results.Outcomes;

namespace Experiments.Grains.Running;

/// <summary>The shards that this silo's worker holds a lease of: where its shard grains find what to run.</summary>
public sealed class ShardHost(ComputePool pool, ShardRunner runner, IsolatedRunner? isolated = null)
{
    private readonly ConcurrentDictionary<(long Sweep, int Shard), ShardRun> _expected = new();

    /// <summary>Makes the run known, so that its grain can begin it.</summary>
    public void Expect(ShardRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        _expected[(run.Lease.SweepId, run.Lease.Shard)] = run;
    }

    /// <summary>Queues the run of exactly this lease, once; false when it is not expected here.</summary>
    public bool Begin(ShardLease lease, ActivityContext parent)
    {
        ArgumentNullException.ThrowIfNull(lease);
        if (!_expected.TryGetValue((lease.SweepId, lease.Shard), out ShardRun? run) || run.Lease.Epoch != lease.Epoch)
        {
            return false;
        }

        if (run.TryBegin(parent))
        {
            IShardRunner by = isolated is not null && IsolatedRunner.Wants(lease) ? isolated : runner;
            pool.Enqueue(!run.Plan.Measure.Sharing, lane => run.Execute(by, lane));
        }

        return true;
    }

    /// <summary>The run is over, or never will be.</summary>
    public void Forget(ShardRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        _expected.TryRemove(new KeyValuePair<(long, int), ShardRun>((run.Lease.SweepId, run.Lease.Shard), run));
        if (run.TryBegin(default))
        {
            run.Abandon();
        }
    }
}
