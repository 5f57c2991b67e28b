using System.Text.Json;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>Who may run which shard. Every clock is the server's.</summary>
public sealed partial class ResultStore
{
    /// <summary>Registers this process and takes its liveness lock (a session advisory lock, freed by its death).</summary>
    /// <param name="told">Called with the number of a sweep whose state or priority has just changed (made, cancelled, resumed, done), and with null when
    /// any may have, because nobody listened for a while. Called on the connection's own thread of control: it must be quick and throw
    /// nothing. A notice can be lost with the connection, so it is a reason to look sooner and no more.</param>
    public async Task<int> RegisterNodeAsync(NodeRow node, Action<long?>? told, CancellationToken cancellation)
    {
        NodeLiveness liveness = await StoreFaults.RunAsync(
            _address, async token => await NodeLiveness.StartAsync(_address, node, told, token), cancellation);
        lock (_nodesLock)
        {
            _nodes.Add(liveness);
        }

        return liveness.NodeId;
    }

    /// <summary>Gives up a node's liveness lock before the process ends: its leases can be granted to others from now on.</summary>
    public async Task UnregisterNodeAsync(int nodeId)
    {
        NodeLiveness? found;
        lock (_nodesLock)
        {
            found = _nodes.Find(n => n.NodeId == nodeId);
            if (found is not null)
            {
                _nodes.Remove(found);
            }
        }

        if (found is not null)
        {
            await found.DisposeAsync();
        }
    }

    /// <summary>The state of every shard of a sweep, to rebuild a ledger from. One SELECT. While we may take nobody's lease (see
    /// <see cref="GrantAsync"/>) every holder counts as alive.</summary>
    public async Task<IReadOnlyList<ShardRow>> LoadShardsAsync(long sweepId, CancellationToken cancellation)
    {
        bool mayTakeOver = MayTakeOver;
        return await QueryAsync(
            "load-shards",
            r => new ShardRow(
                r.GetInt32(0), ShardStateOf(r.GetString(1)), r.GetInt32(2), Nullable<int>(r, 3), r.GetInt64(4), r.GetInt64(5), r.GetInt64(6),
                r.GetInt32(7), r.GetInt32(8), r.GetDouble(9), r.GetBoolean(10) || !mayTakeOver)
            {
                NeedsFreeBytes = Nullable<double>(r, 11),
                NeedsCores = Nullable<int>(r, 12),
            },
            cancellation,
            sweepId);
    }

    /// <summary>What plug-ins each node offers that is alive now, but for the nodes of one process.</summary>
    public async Task<IReadOnlyList<IReadOnlyList<PlugInIdentity>>> LivePlugInsAsync(
        string butHost, int butProcess, CancellationToken cancellation) =>
        await QueryAsync<IReadOnlyList<PlugInIdentity>>("live-plug-ins", r => Offered(NullableText(r, 0)), cancellation, butHost, butProcess);

    /// <summary>How many bytes each silo had free at its start that is alive now and takes up every sweep, but for one process.</summary>
    public async Task<IReadOnlyList<double>> LiveMemoryAsync(string butHost, int butProcess, CancellationToken cancellation) =>
        await QueryAsync("live-memory", r => r.GetDouble(0), cancellation, butHost, butProcess);

    /// <summary>Gives a lease back for a silo with more room, and says how much the shard needs; false, and nothing changed, when there
    /// is none alive, or the lease is no longer the node's.</summary>
    /// <param name="freeBytes">That it must have free; null where memory is not what lacks.</param>
    /// <param name="cores">That threads can be pinned to; null likewise.</param>
    public async Task<bool> HandOnAsync(ShardLease lease, int nodeId, double? freeBytes, int? cores, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        return await ExecuteAsync(
            "hand-on-shard", cancellation, lease.SweepId, lease.Shard, lease.Epoch, nodeId, freeBytes ?? 0, cores ?? 0) == 1;
    }

    /// <summary>Leases those of the named shards that are ready, or whose lease has expired, or whose holder's liveness lock is
    /// gone, unless a second holder goes on; each with a higher epoch. None of a sweep that is not running, or that needs a plug-in which the node does not offer; and none that
    /// needs more room than the node has, as long as a silo is alive that has it.</summary>
    /// <remarks>A holder whose lock is gone after it had begun the shard is counted among the shard's dead.
    /// Nobody's lease is taken within <see cref="NodeLiveness.Grace"/> of our own liveness lock's having been lost: what broke our connection
    /// (the server's restart, a fail-over) may have broken the holder's, who lives and is about to be back.</remarks>
    public async Task<IReadOnlyList<ShardLease>> GrantAsync(
        long sweepId, IReadOnlyList<int> shards, int nodeId, TimeSpan duration, CancellationToken cancellation) =>
        await QueryAsync(
            "grant-shards",
            r => LeaseOf(sweepId, r),
            cancellation,
            sweepId, shards.ToArray(), nodeId, duration, MayTakeOver);

    /// <summary>The shards that <see cref="GrantAsync"/> would take from those who hold them, because they are dead or did not renew.</summary>
    public async Task<IReadOnlyList<int>> OrphanedShardsAsync(long sweepId, CancellationToken cancellation) =>
        MayTakeOver ? await QueryAsync("orphaned-shards", r => r.GetInt32(0), cancellation, sweepId) : [];

    /// <summary>Shards that another node has held for much longer than the sweep's shards took, by their predictions, longest held first; none while
    /// none is done.</summary>
    /// <param name="least">What is never too long.</param>
    public async Task<IReadOnlyList<int>> OverdueAsync(
        long sweepId, int nodeId, TimeSpan least, int limit, CancellationToken cancellation) =>
        await QueryAsync("overdue-shards", r => r.GetInt32(0), cancellation, sweepId, nodeId, least, limit);

    /// <summary>Leases those of the named shards a second time that a living node holds alone: under its epoch, so that either may commit, and one
    /// does. None to their holder, nor of a sweep that is not running, or that needs a plug-in which the node does not offer or more room than it has.</summary>
    public async Task<IReadOnlyList<ShardLease>> GrantSecondAsync(
        long sweepId, IReadOnlyList<int> shards, int nodeId, TimeSpan duration, CancellationToken cancellation) =>
        shards.Count == 0 ? [] : await QueryAsync(
            "grant-second", r => LeaseOf(sweepId, r), cancellation, sweepId, shards.ToArray(), nodeId, duration);

    /// <summary>Says that the shard is being computed now: should its holder's process end from here on, that is a death of the shard.</summary>
    public Task BegunAsync(ShardLease lease, int nodeId, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        return ExecuteAsync("shard-begun", cancellation, lease.SweepId, lease.Shard, lease.Epoch, nodeId);
    }

    /// <summary>Takes the node out of the shard's dead: it lost the lease, not its life. Nothing where it does not stand among them.</summary>
    public Task SurvivedAsync(ShardLease lease, int nodeId, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        return ExecuteAsync("shard-survived", cancellation, lease.SweepId, lease.Shard, nodeId);
    }

    /// <summary>Prolongs leases; returns those that are still held. One that is missing was fenced, or its sweep cancelled.</summary>
    public async Task<IReadOnlyList<ShardLease>> RenewAsync(
        IReadOnlyList<ShardLease> leases, int nodeId, TimeSpan duration, CancellationToken cancellation)
    {
        if (leases.Count == 0)
        {
            return [];
        }

        (long[] sweeps, int[] numbers, int[] epochs) = Columns(leases);
        List<(long, int, int)> held = await QueryAsync(
            "renew-leases", r => (r.GetInt64(0), r.GetInt32(1), r.GetInt32(2)), cancellation, sweeps, numbers, epochs, nodeId, duration);
        HashSet<(long, int, int)> set = [.. held];
        return [.. leases.Where(l => set.Contains((l.SweepId, l.Shard, l.Epoch)))];
    }

    /// <summary>Gives leases back unrun: a shard that another node holds too is that one's alone from then on.</summary>
    public async Task ReleaseAsync(IReadOnlyList<ShardLease> leases, int nodeId, CancellationToken cancellation)
    {
        if (leases.Count > 0)
        {
            (long[] sweeps, int[] numbers, int[] epochs) = Columns(leases);
            await ExecuteAsync("release-leases", cancellation, sweeps, numbers, epochs, nodeId);
        }
    }

    private static ShardLease LeaseOf(long sweepId, NpgsqlDataReader r) => new(
        sweepId, r.GetInt32(0), r.GetInt32(1), r.GetInt64(2), r.GetInt64(3), r.GetInt64(4), r.GetInt32(5), r.GetInt32(6))
    {
        Part = r.GetInt32(7),
        Only = r.IsDBNull(8) ? null : r.GetFieldValue<int[]>(8),
        Deaths = r.GetInt32(9),
        SweepIsolated = r.GetBoolean(10),
    };

    private bool MayTakeOver
    {
        get
        {
            lock (_nodesLock)
            {
                return _nodes.TrueForAll(n => n.IsSteady);
            }
        }
    }

    private static PlugInIdentity[] Offered(string? json)
    {
        if (json is null)
        {
            return [];
        }

        using JsonDocument document = JsonDocument.Parse(json);
        return SweepSpec.ReadPlugIns(document.RootElement);
    }

    private static (long[] Sweeps, int[] Numbers, int[] Epochs) Columns(IReadOnlyList<ShardLease> leases) =>
        ([.. leases.Select(l => l.SweepId)], [.. leases.Select(l => l.Shard)], [.. leases.Select(l => l.Epoch)]);

    private static ShardState ShardStateOf(string word) => word switch
    {
        "ready" => ShardState.Ready,
        "leased" => ShardState.Leased,
        _ => ShardState.Done,
    };
}
