using System.Security.Cryptography;
using Experiments.Grains.Running;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Microsoft.Extensions.Logging;
using Orleans.Placement;
using Orleans.Runtime.Placement;

namespace Experiments.Grains;

/// <inheritdoc cref="ISweepGrain"/>
[PreferLocalPlacement]
[KeepAlive]
public sealed partial class SweepGrain(
    StoreHandle stores, IClusterMembershipService cluster, ILocalSiloDetails self, TimeProvider time, ILogger<SweepGrain> log)
    : Grain, ISweepGrain
{
    // Where everything left is leased by others, the rows are looked at again this often; and what the dead hold is looked for this often.
    private static readonly TimeSpan LoadAgainAfter = TimeSpan.FromSeconds(1);

    // A network that loses what is sent says nothing; those who wait for this grain are to hear of it before they give up.
    private static readonly TimeSpan StoreAnswersWithin = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Adopt = TimeSpan.FromSeconds(10);

    // No shard is taken for a straggler sooner: a second holder costs a silo's time, and a sweep's last shards are short.
    private static readonly TimeSpan LeastOverdue = TimeSpan.FromSeconds(2);

    // A sweep that is cancelled or paused is asked for no more, by anyone, and its grain is told by nobody.
    private static readonly TimeSpan Forgotten = TimeSpan.FromMinutes(5);

    private readonly ShardLedger _ledger = new(time);
    private readonly Dictionary<int, (long Sequence, LeaseGrant Grant)> _answers = [];
    private long _loadedAt;
    private long _orphansAt;
    private long _askedAt;

    private long SweepId => this.GetPrimaryKeyLong();

    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        LeadsFromHere(log, SweepId);
        _askedAt = time.GetTimestamp();
        this.RegisterGrainTimer(LeaveIfForgotten, new GrainTimerCreationOptions(Forgotten, Forgotten));
        return Task.CompletedTask;
    }

    private Task LeaveIfForgotten(CancellationToken cancellation)
    {
        if (time.GetElapsedTime(_askedAt) >= Forgotten)
        {
            DeactivateOnIdle();
        }

        return Task.CompletedTask;
    }

    public async Task<LeaseGrant> Take(LeaseRequest request, CancellationToken cancellation)
    {
        _askedAt = time.GetTimestamp();
        if (_answers.TryGetValue(request.NodeId, out (long Sequence, LeaseGrant Grant) last)
            && last.Sequence == request.Sequence)
        {
            return last.Grant;
        }

        try
        {
            LeaseGrant grant = await TakeAsync(request, cancellation).WaitAsync(
                Others().Length > 0 ? StoreAnswersWithin : Timeout.InfiniteTimeSpan, time, cancellation);
            _answers[request.NodeId] = (request.Sequence, grant);
            return grant;
        }
        catch (StoreUnavailableException away) when (away.MayPass)
        {
            return Away(away.Message);
        }
        catch (TimeoutException)
        {
            return Away($"The store has not answered within {StoreAnswersWithin.TotalSeconds:F0} s.");
        }
    }

    /// <summary>The store may be away for this silo alone, so the sweep is led from another, whatever silo that is. To go and be made again where
    /// the next one asks would not do: whoever asks for a grain that has just gone is passed on by its silo, to another one there.</summary>
    private LeaseGrant Away(string reason)
    {
        SiloAddress[] others = Others();
        if (others.Length > 0)
        {
            RequestContext.Set(IPlacementDirector.PlacementHintKey, others[RandomNumberGenerator.GetInt32(others.Length)]);
            MigrateOnIdle();
        }
        else
        {
            DeactivateOnIdle();
        }

        return new LeaseGrant([], false) { StoreAway = reason };
    }

    private SiloAddress[] Others() => [.. cluster.CurrentSnapshot.Members.Values
        .Where(m => m.Status == SiloStatus.Active && !m.SiloAddress.Equals(self.SiloAddress)).Select(m => m.SiloAddress)];

    public ValueTask<LedgerProgress> Progress() =>
        new(new LedgerProgress(_ledger.Total, _ledger.Ready, _ledger.Leased, _ledger.Done));

    private async Task<LeaseGrant> TakeAsync(LeaseRequest request, CancellationToken cancellation)
    {
        ResultStore store = await stores.GetAsync(cancellation);
        if (_ledger.Stale)
        {
            await LoadAsync(store, cancellation);
        }

        foreach (ShardLease lease in request.Committed)
        {
            _ledger.Complete(lease);
        }

        foreach (ShardLease lease in request.Released)
        {
            _ledger.Release(lease);
        }

        if (_ledger.Done == _ledger.Total)
        {
            // All done as far as is known here; the rows say whether it is so, or whether failed trials were put back since.
            await LoadAsync(store, cancellation);
        }

        IReadOnlyList<ShardLease> leases = await GrantAsync(store, request, cancellation);
        if (leases.Count == 0 && request is { IsIdle: true, Wanted: > 0 } && _ledger.Leased > 0)
        {
            leases = await store.GrantSecondAsync(
                SweepId, await store.OverdueAsync(SweepId, request.NodeId, LeastOverdue, request.Wanted, cancellation), request.NodeId, request.Duration, cancellation);
        }

        return new LeaseGrant([.. leases], leases.Count == 0 && await FinishAsync(store, cancellation));
    }

    private async Task<IReadOnlyList<ShardLease>> GrantAsync(
        ResultStore store, LeaseRequest request, CancellationToken cancellation)
    {
        for (int attempt = 0; attempt < 2 && request.Wanted > 0; attempt++)
        {
            _ledger.Expire();
            await FindOrphansAsync(store, request.NodeId, cancellation);
            IReadOnlyList<int> asked = _ledger.Choose(request.Wanted, request.FreeBytes, request.Cores);
            if (asked.Count > 0)
            {
                IReadOnlyList<ShardLease> leases;
                try
                {
                    leases = await store.GrantAsync(SweepId, asked, request.NodeId, request.Duration, cancellation);
                }
                catch
                {
                    // Whether it was granted is unknown; asking for the same shards again is safe, the epoch tells.
                    _ledger.Refused(asked);
                    throw;
                }

                _ledger.Granted(asked, leases, request.NodeId, request.Duration);
                if (leases.Count > 0)
                {
                    return leases;
                }
            }

            // Nothing to be had by what is known here. Others may have finished, died or given back since.
            if (_ledger.Done == _ledger.Total || time.GetElapsedTime(_loadedAt) < LoadAgainAfter)
            {
                break;
            }

            await LoadAsync(store, cancellation);
        }

        return [];
    }

    /// <summary>A dead silo's shards are run again at once, not when everything else is done; a hung one's, when their leases have run out.</summary>
    private async Task FindOrphansAsync(ResultStore store, int node, CancellationToken cancellation)
    {
        if (time.GetElapsedTime(_orphansAt) >= LoadAgainAfter && _ledger.LeasedToOthers(node))
        {
            _ledger.Orphaned(await store.OrphanedShardsAsync(SweepId, cancellation));
            _orphansAt = time.GetTimestamp();
        }
    }

    /// <summary>Whether all is done, by the rows that this turn has loaded; the first to see it says so in the store.</summary>
    private async Task<bool> FinishAsync(ResultStore store, CancellationToken cancellation)
    {
        if (_ledger.Done < _ledger.Total)
        {
            return false;
        }

        SweepProgress progress = await store.ProgressAsync(SweepId, cancellation);
        long stored = progress.Done + progress.Failed + progress.Skipped;
        if (stored != progress.Trials)
        {
            // It may have been extended since the rows were loaded.
            int total = _ledger.Total;
            await LoadAsync(store, cancellation);
            if (_ledger.Total > total)
            {
                return false;
            }

            throw new InvalidOperationException(
                $"Every shard of sweep {SweepId} is marked done, but {stored} of its {progress.Trials} trials are stored. "
                + "The store has been changed by other hands; the sweep is left running.");
        }

        // False when another process was first, which is as good.
        await store.SetSweepStateAsync(SweepId, SweepState.Done, cancellation);
        return true;
    }

    private async Task LoadAsync(ResultStore store, CancellationToken cancellation)
    {
        _ledger.Load(await store.LoadShardsAsync(SweepId, cancellation), Adopt);
        _loadedAt = time.GetTimestamp();
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Sweep {Sweep} is led from here")]
    private static partial void LeadsFromHere(ILogger log, long sweep);
}
