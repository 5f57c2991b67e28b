using System.Threading.Channels;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Store;

public sealed class LeaseTests : StoreTest
{
    [Fact]
    public async Task Many_who_ask_at_once_get_every_shard_once()
    {
        const int Shards = 40;
        long sweep = await Make.SweepAsync(Store, Shards, 1);
        int node = await Make.NodeAsync(Store);
        int[] all = [.. Enumerable.Range(0, Shards)];
        IReadOnlyList<ShardLease>[] grants = await Task.WhenAll(Enumerable.Range(0, 16).Select(
            _ => Task.Run(() => Store.GrantAsync(sweep, all, node, Make.LongLease, Cancellation))));
        List<int> granted = [.. grants.SelectMany(g => g).Select(l => l.Shard)];
        // A row that another grant looks at is skipped, so a last call may be needed for what everyone left to the others.
        granted.AddRange((await Store.GrantAsync(sweep, all, node, Make.LongLease, Cancellation)).Select(l => l.Shard));
        Assert.Equal(all, granted.Order());
        Assert.All(grants.SelectMany(g => g), l => Assert.Equal(1, l.Epoch));
    }

    [Fact]
    public async Task A_lease_is_not_granted_again_before_it_expires_and_is_after()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int holder = await Make.NodeAsync(Store);
        int other = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, holder);
        Assert.Empty(await Store.GrantAsync(sweep, [0], other, Make.LongLease, Cancellation));

        // A stopped holder keeps its connection, so only the server's clock can tell.
        Assert.Single(await Store.RenewAsync([lease], holder, TimeSpan.Zero, Cancellation));
        ShardLease next = await Make.GrantOneAsync(Store, sweep, 0, other);
        Assert.Equal(lease.Epoch + 1, next.Epoch);
        Assert.Empty(await Store.RenewAsync([lease], holder, Make.LongLease, Cancellation));
        Assert.Single(await Store.RenewAsync([next], other, Make.LongLease, Cancellation));
    }

    [Fact]
    public async Task A_second_holder_fences_nobody_and_the_first_of_the_two_to_commit_is_the_one()
    {
        foreach (bool secondCommits in (bool[])[false, true])
        {
            long sweep = await Make.SweepAsync(Store, 1, 2);
            int holder = await Make.NodeAsync(Store), other = await Make.NodeAsync(Store), third = await Make.NodeAsync(Store);
            ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, holder);
            Assert.Empty(await Store.GrantSecondAsync(sweep, [0], holder, Make.LongLease, Cancellation));
            ShardLease second = Assert.Single(await Store.GrantSecondAsync(sweep, [0], other, Make.LongLease, Cancellation));
            Assert.Equal(lease, second);
            Assert.Empty(await Store.GrantSecondAsync(sweep, [0], third, Make.LongLease, Cancellation));
            Assert.Single(await Store.RenewAsync([lease], holder, Make.LongLease, Cancellation));
            Assert.Single(await Store.RenewAsync([second], other, Make.LongLease, Cancellation));

            (int first, int late) = secondCommits ? (other, holder) : (holder, other);
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, first), Cancellation));
            Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(lease, late), Cancellation));
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, first), Cancellation));
            Assert.Empty(await Store.RenewAsync([lease], late, Make.LongLease, Cancellation));
            Assert.Equal(2L, await ScalarAsync($"SELECT count(*) FROM experiments.trial WHERE sweep_id = {sweep} AND node_id = {first}"));
        }
    }

    [Fact]
    public async Task A_second_holder_goes_on_alone_when_the_first_gives_up_dies_or_stops()
    {
        int other = await Make.NodeAsync(Store), third = await Make.NodeAsync(Store);
        foreach (string end in (string[])["released", "dead", "stopped"])
        {
            long sweep = await Make.SweepAsync(Store, 1, 2);
            int holder = await Make.NodeAsync(Store);
            ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, holder);
            Assert.Single(await Store.GrantSecondAsync(sweep, [0], other, Make.LongLease, Cancellation));
            switch (end)
            {
                case "released":
                    await Store.ReleaseAsync([lease], holder, Cancellation);
                    break;
                case "dead":
                    await Store.UnregisterNodeAsync(holder);
                    break;
                default:
                    await Store.RenewAsync([lease], holder, TimeSpan.Zero, Cancellation);
                    break;
            }

            Assert.Empty(await Store.GrantAsync(sweep, [0], third, Make.LongLease, Cancellation));
            Assert.True(Assert.Single(await Store.LoadShardsAsync(sweep, Cancellation)).HolderAlive);
            Assert.Single(await Store.RenewAsync([lease], other, Make.LongLease, Cancellation));
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, other), Cancellation));
        }
    }

    [Fact]
    public async Task A_shard_of_which_both_holders_are_gone_is_granted_under_a_higher_epoch()
    {
        long sweep = await Make.SweepAsync(Store, 1, 2);
        int holder = await Make.NodeAsync(Store), other = await Make.NodeAsync(Store), third = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, holder);
        Assert.Single(await Store.GrantSecondAsync(sweep, [0], other, Make.LongLease, Cancellation));
        await Store.UnregisterNodeAsync(other);
        Assert.Empty(await Store.GrantAsync(sweep, [0], third, Make.LongLease, Cancellation));
        await Store.UnregisterNodeAsync(holder);
        ShardLease next = await Make.GrantOneAsync(Store, sweep, 0, third);
        Assert.Equal(2, next.Epoch);
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(lease, holder), Cancellation));
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(lease, other), Cancellation));
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(next, third), Cancellation));
    }

    [Fact]
    public async Task A_shard_is_overdue_when_others_of_its_sweep_took_half_as_long_each_by_its_prediction()
    {
        long sweep = await Make.SweepAsync(Store, 12, 1);
        int holder = await Make.NodeAsync(Store), other = await Make.NodeAsync(Store);
        IReadOnlyList<ShardLease> leases = await Store.GrantAsync(sweep, [.. Enumerable.Range(0, 12)], holder, Make.LongLease, Cancellation);
        await OwnerAsync($"UPDATE experiments.shard SET granted_at = now() - interval '70 s', predicted_seconds = 20 WHERE sweep_id = {sweep}");
        Assert.Empty(await OverdueAsync(TimeSpan.Zero));
        foreach (ShardLease lease in leases.Where(l => l.Shard < 10))
        {
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, holder), Cancellation));
        }

        // They took as long as they were predicted to; the last two have been held for three and a half times as long.
        await OwnerAsync($"UPDATE experiments.shard SET granted_at = committed_at - interval '20 s' WHERE sweep_id = {sweep} AND state = 'done'");
        Assert.Equal([10, 11], (await OverdueAsync(TimeSpan.Zero)).Order());
        await OwnerAsync($"UPDATE experiments.shard SET predicted_seconds = 60 WHERE sweep_id = {sweep} AND number = 11");
        Assert.Equal([10], await OverdueAsync(TimeSpan.Zero));
        Assert.Empty(await OverdueAsync(TimeSpan.FromMinutes(2)));
        Assert.Empty(await Store.OverdueAsync(sweep, holder, TimeSpan.Zero, 5, Cancellation));

        Task<IReadOnlyList<int>> OverdueAsync(TimeSpan least) => Store.OverdueAsync(sweep, other, least, 5, Cancellation);
    }

    [Fact]
    public async Task The_shards_of_a_holder_that_is_gone_are_granted_at_once()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int survivor = await Make.NodeAsync(Store);
        int dead = await Make.NodeAsync(Store);
        await Make.GrantOneAsync(Store, sweep, 0, dead);
        Assert.True(Assert.Single(await Store.LoadShardsAsync(sweep, Cancellation)).HolderAlive);

        await Store.UnregisterNodeAsync(dead);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, survivor);
        Assert.Equal(2, lease.Epoch);
    }

    [Fact]
    public async Task A_node_whose_connection_breaks_comes_back_to_life()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int node = await Make.NodeAsync(Store);
        await Make.GrantOneAsync(Store, sweep, 0, node);
        object process = (await ScalarAsync($"SELECT pid FROM experiments.live_node WHERE node_id = {node}"))!;
        await OwnerAsync($"SELECT pg_terminate_backend({process})");
        while (!true.Equals(await ScalarAsync($"SELECT pid <> {process} FROM experiments.live_node WHERE node_id = {node}")))
        {
            await Task.Delay(20, Cancellation);
        }

        Assert.True(Assert.Single(await Store.LoadShardsAsync(sweep, Cancellation)).HolderAlive);
    }

    [Fact]
    public async Task Who_has_just_lost_his_own_connection_takes_nobodys_lease()
    {
        long sweep = await Make.SweepAsync(Store, 3, 1);
        int survivor = await Make.NodeAsync(Store);
        await using ResultStore other = await ResultStore.OpenAsync(Address, Cancellation);
        int away = await Make.NodeAsync(other);
        await Make.GrantOneAsync(other, sweep, 0, away);
        Assert.Single(await other.GrantAsync(sweep, [1], away, TimeSpan.Zero, Cancellation));

        // One has run out, which needs no lock to be seen.
        Assert.Equal([1], await Store.OrphanedShardsAsync(sweep, Cancellation));
        await other.UnregisterNodeAsync(away);
        Assert.Equal([0, 1], await Store.OrphanedShardsAsync(sweep, Cancellation));

        await OwnerAsync($"SELECT pg_terminate_backend(pid) FROM experiments.live_node WHERE node_id = {survivor}");
        while ((await Store.OrphanedShardsAsync(sweep, Cancellation)).Count > 0)
        {
            await Task.Delay(5, Cancellation);
        }

        Assert.All(await Store.LoadShardsAsync(sweep, Cancellation), s => Assert.True(s.State == ShardState.Ready || s.HolderAlive));
        Assert.Equal([2], (await Store.GrantAsync(sweep, [0, 1, 2], survivor, Make.LongLease, Cancellation)).Select(l => l.Shard));

        // Whoever lives has had time to come back.
        await Task.Delay(NodeLiveness.Grace + TimeSpan.FromSeconds(2), Cancellation);
        Assert.Equal([0, 1], await Store.OrphanedShardsAsync(sweep, Cancellation));
        Assert.Equal([0, 1], (await Store.GrantAsync(sweep, [0, 1, 2], survivor, Make.LongLease, Cancellation)).Select(l => l.Shard).Order());
    }

    [Fact]
    public async Task A_cancelled_sweep_grants_and_renews_nothing_but_stores_what_was_finished()
    {
        long sweep = await Make.SweepAsync(Store, 3, 1);
        int node = await Make.NodeAsync(Store);
        ShardLease first = await Make.GrantOneAsync(Store, sweep, 0, node);
        ShardLease second = await Make.GrantOneAsync(Store, sweep, 1, node);
        Assert.True(await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation));
        Assert.False(await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation));
        Assert.Empty(await Store.GrantAsync(sweep, [2], node, Make.LongLease, Cancellation));
        Assert.Empty(await Store.RenewAsync([first, second], node, Make.LongLease, Cancellation));
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(first, node), Cancellation));

        Assert.True(await Store.SetSweepStateAsync(sweep, SweepState.Running, Cancellation));
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(second, node), Cancellation));
        Assert.Equal([1, 2], (await Store.GrantAsync(sweep, [0, 1, 2], node, Make.LongLease, Cancellation)).Select(l => l.Shard).Order());
    }

    [Fact]
    public async Task A_sweep_that_was_cancelled_after_its_last_shard_is_done_when_resumed()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation);
        await Store.CommitAsync(Make.Commit(lease, node), Cancellation);
        Assert.Equal(SweepState.Cancelled, (await Store.ProgressAsync(sweep, Cancellation)).State);
        Assert.True(await Store.SetSweepStateAsync(sweep, SweepState.Running, Cancellation));
        Assert.Equal(SweepState.Done, (await Store.ProgressAsync(sweep, Cancellation)).State);
    }

    [Fact]
    public async Task A_node_is_told_of_a_sweep_that_is_made_cancelled_resumed_and_done_and_of_nothing_else()
    {
        Channel<long?> heard = Channel.CreateUnbounded<long?>();
        int node = await Store.RegisterNodeAsync(
            new NodeRow("node", "host", Environment.ProcessId, "{}"), sweep => heard.Writer.TryWrite(sweep), Cancellation);
        async Task<long?> NextAsync() => await heard.Reader.ReadAsync(Cancellation).AsTask().WaitAsync(TimeSpan.FromMinutes(1), Cancellation);
        long sweep = await Make.SweepAsync(Store, 2, 4);
        Assert.Equal(sweep, await NextAsync());
        Assert.True(await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation));
        Assert.Equal(sweep, await NextAsync());
        Assert.False(await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation));
        Assert.True(await Store.SetSweepStateAsync(sweep, SweepState.Running, Cancellation));
        Assert.Equal(sweep, await NextAsync());

        // A commit that is not the last changes no state; were it told of, it would stand before the made sweep.
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node), Cancellation);
        long other = await Make.SweepAsync(Store, 1, 1);
        Assert.Equal(other, await NextAsync());
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, 1, node), node), Cancellation);
        Assert.Equal(sweep, await NextAsync());

        await OwnerAsync("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'experiments node' AND datname = current_database()");
        Assert.Null(await NextAsync());
        Assert.True(await Store.SetSweepStateAsync(other, SweepState.Cancelled, Cancellation));
        Assert.Equal(other, await NextAsync());
        await Store.UnregisterNodeAsync(node);
        Assert.False(heard.Reader.TryRead(out _));
    }

    [Fact]
    public async Task A_retry_keeps_the_old_rows_and_reopens_only_their_shards()
    {
        long sweep = await Make.SweepAsync(Store, 3, 4);
        int node = await Make.NodeAsync(Store);
        ShardLease[] leases = [.. await Store.GrantAsync(sweep, [0, 1, 2], node, Make.LongLease, Cancellation)];
        foreach (ShardLease lease in leases)
        {
            ShardCommit commit = Make.Commit(lease, node, (place, outcome) => outcome.Status =
                lease.Shard != 1 || place > 1 ? TrialStatus.Done : place == 0 ? TrialStatus.Failed : TrialStatus.Skipped);
            await Store.CommitAsync(commit, Cancellation);
        }

        Assert.Equal(new SweepProgress(SweepState.Done, 12, 10, 1, 1, 3, 3, 0), await Store.ProgressAsync(sweep, Cancellation));
        Assert.Equal(1, await Store.RetryAsync(sweep, failed: true, skipped: false, Cancellation));
        Assert.Equal(0, await Store.RetryAsync(sweep, failed: true, skipped: false, Cancellation));
        Assert.Equal(new SweepProgress(SweepState.Running, 12, 10, 0, 1, 3, 2, 0), await Store.ProgressAsync(sweep, Cancellation));
        Assert.Equal(1, await Store.RetryAsync(sweep, failed: false, skipped: true, Cancellation));
        Assert.Equal(new HashSet<long> { 6, 7 }, await Store.StoredTrialsAsync(sweep, 1, Cancellation));
        Assert.Equal(2L, await ScalarAsync("SELECT count(*) FROM experiments.trial_attempt WHERE cardinality(seconds) = 3"));
        Assert.Equal(10L, await ScalarAsync("SELECT count(*) FROM experiments.sample"));

        ShardLease again = Assert.Single(await Store.GrantAsync(sweep, [0, 1, 2], node, Make.LongLease, Cancellation));
        Assert.Equal((1, 2, 2), (again.Shard, again.Epoch, again.StoredTrials));
        await Assert.ThrowsAsync<ArgumentException>(
            () => Store.CommitAsync(Make.Commit(again, node, trials: [5, 6]), Cancellation));
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(again, node, trials: [4, 5]), Cancellation));
        Assert.Equal(new SweepProgress(SweepState.Done, 12, 12, 0, 0, 3, 3, 0), await Store.ProgressAsync(sweep, Cancellation));
        Assert.Equal(12L, await ScalarAsync("SELECT count(DISTINCT trial) FROM experiments.trial"));
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public async Task A_retry_takes_what_it_was_asked_for_and_passes_over_shards_that_run(bool failed, bool skipped)
    {
        // Shard 0 has one that failed, 1 has one that was skipped, 2 has two of each, 3 likewise and is being run again.
        long sweep = await Make.SweepAsync(Store, 4, 4);
        int node = await Make.NodeAsync(Store);
        foreach (ShardLease lease in await Store.GrantAsync(sweep, [0, 1, 2, 3], node, Make.LongLease, Cancellation))
        {
            ShardCommit commit = Make.Commit(lease, node, (place, outcome) => outcome.Status =
                lease.Shard >= 2 ? (place % 2 == 0 ? TrialStatus.Failed : TrialStatus.Skipped)
                : place > 0 ? TrialStatus.Done : lease.Shard == 0 ? TrialStatus.Failed : TrialStatus.Skipped);
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit, Cancellation));
        }

        await OwnerAsync($"UPDATE experiments.sweep SET state = 'running', finished_at = NULL, shards_left = 1 WHERE id = {sweep}");
        await OwnerAsync($"UPDATE experiments.shard SET state = 'leased' WHERE sweep_id = {sweep} AND number = 3");
        long each = (failed ? 3 : 0) + (skipped ? 3 : 0);
        Assert.Equal(each, await Store.RetryAsync(sweep, failed, skipped, Cancellation));
        Assert.Equal(
            new SweepProgress(SweepState.Running, 16, 6, failed ? 2 : 5, skipped ? 2 : 5, 4, failed && skipped ? 0 : 1, 1),
            await Store.ProgressAsync(sweep, Cancellation));
        Assert.Equal(each, await ScalarAsync("SELECT count(*) FROM experiments.trial_attempt"));
        Assert.Equal(
            (failed ? 3L : 0, skipped ? 3L : 0),
            (await ScalarAsync("SELECT count(*) FROM experiments.trial_attempt WHERE status = 'failed'"),
                await ScalarAsync("SELECT count(*) FROM experiments.trial_attempt WHERE status = 'skipped'")));
        Assert.Equal(4L, await ScalarAsync("SELECT count(*) FROM experiments.trial WHERE shard = 3"));
        Assert.Equal(0, await Store.RetryAsync(sweep, failed, skipped, Cancellation));
    }

    [Theory]
    [InlineData("running")]
    [InlineData("cancelled")]
    [InlineData("done")]
    public async Task An_extension_adds_shards_under_new_numbers_and_the_sweep_runs(string state)
    {
        long sweep = await Make.SweepAsync(Store, 2, 4);
        int node = await Make.NodeAsync(Store);
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node), Cancellation);
        ShardLease held = await Make.GrantOneAsync(Store, sweep, 1, node);
        if (state == "done")
        {
            await Store.CommitAsync(Make.Commit(held, node), Cancellation);
        }
        else if (state == "cancelled")
        {
            await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation);
        }

        SweepRow row = (await Store.FindSweepAsync(sweep, Cancellation))!;
        ExtendedSweep longer = new(
            row.SpecificationHash, """{"name":"longer"}""", Guid.NewGuid(), "name: longer", 11,
            [new ShardPlan(2, 0, 3, 8, 2, 1) { Only = [0, 5] }, new ShardPlan(3, 3, 4, 10, 1, 1)]);
        Assert.False(await Store.ExtendSweepAsync(sweep, longer with { From = Guid.NewGuid() }, Cancellation));
        Assert.False(await Store.ExtendSweepAsync(sweep + 1, longer, Cancellation));
        Assert.True(await Store.ExtendSweepAsync(sweep, longer, Cancellation));

        // Once more is what a lost answer leads to, and adds nothing.
        Assert.True(await Store.ExtendSweepAsync(sweep, longer, Cancellation));
        SweepProgress progress = await Store.ProgressAsync(sweep, Cancellation);
        Assert.Equal((SweepState.Running, 11, 4), (progress.State, progress.Trials, progress.Shards));
        Assert.Equal(state == "running" ? 1 : 0, progress.ShardsLeased);
        SweepRow extended = (await Store.FindSweepAsync(sweep, Cancellation))!;
        Assert.Equal(("""{"name":"longer"}""", "name: longer", 11), (extended.Specification, extended.Source, extended.Instances));
        Assert.Equal([row.Specification], extended.Former);

        ShardLease[] leases = [.. (await Store.GrantAsync(sweep, [0, 1, 2, 3], node, Make.LongLease, Cancellation)).OrderBy(l => l.Shard)];
        Assert.Equal(state == "cancelled" ? [1, 2, 3] : [2, 3], leases.Select(l => l.Shard));
        Assert.Equal((1, 8L, 2), (leases[^2].Part, leases[^2].FirstTrial, leases[^2].Trials));
        Assert.Equal([0, 5], leases[^2].Only!);
        Assert.Equal((1, null), (leases[^1].Part, leases[^1].Only));

        // What an older silo would do: it knows of no parts.
        await Store.ReleaseAsync([leases[^1]], node, Cancellation);
        await Assert.ThrowsAsync<Npgsql.PostgresException>(
            () => OwnerAsync($"UPDATE experiments.shard SET state = 'leased', epoch = epoch + 1 WHERE sweep_id = {sweep} AND number = 3"));
        foreach (ShardLease lease in leases[..^1].Append(await Make.GrantOneAsync(Store, sweep, 3, node)))
        {
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, node), Cancellation));
        }

        if (state == "running")
        {
            Assert.Equal(SweepState.Running, (await Store.ProgressAsync(sweep, Cancellation)).State);
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(held, node), Cancellation));
        }

        Assert.Equal(new SweepProgress(SweepState.Done, 11, 11, 0, 0, 4, 4, 0), await Store.ProgressAsync(sweep, Cancellation));
        Assert.Equal(2, (await Store.FindShardOfTrialAsync(sweep, 9, Cancellation))!.Number);
    }

    [Fact]
    public async Task Sweeps_are_listed_newest_first_page_by_page()
    {
        List<long> ids = [];
        for (int i = 0; i < 7; i++)
        {
            ids.Add(await Make.SweepAsync(Store, 1, 1));
        }

        await Store.SetSweepStateAsync(ids[3], SweepState.Cancelled, Cancellation);
        List<long> seen = [];
        long? before = null;
        while (true)
        {
            IReadOnlyList<SweepListing> page = await Store.ListSweepsAsync(before, 3, null, Cancellation);
            if (page.Count == 0)
            {
                break;
            }

            seen.AddRange(page.Select(s => s.Id));
            before = page[^1].Id;
        }

        Assert.Equal(ids.AsEnumerable().Reverse(), seen);
        Assert.Equal(ids[3], Assert.Single(await Store.ListSweepsAsync(null, 10, SweepState.Cancelled, Cancellation)).Id);
    }

    [Fact]
    public async Task A_deleted_sweep_leaves_nothing_and_fences_what_runs()
    {
        long kept = await Make.SweepAsync(Store, 1, 4);
        long sweep = await Make.SweepAsync(Store, 2, 4);
        int node = await Make.NodeAsync(Store);
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, kept, 0, node), node), Cancellation);
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node), Cancellation);
        ShardLease running = await Make.GrantOneAsync(Store, sweep, 1, node);
        Assert.True(await Store.DeleteSweepAsync(sweep, Cancellation));
        Assert.False(await Store.DeleteSweepAsync(sweep, Cancellation));
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(running, node), Cancellation));
        foreach (string table in (string[])["trial", "sample", "span", "shard"])
        {
            Assert.Equal(0L, await ScalarAsync($"SELECT count(*) FROM experiments.{table} WHERE sweep_id = {sweep}"));
            Assert.NotEqual(0L, await ScalarAsync($"SELECT count(*) FROM experiments.{table} WHERE sweep_id = {kept}"));
        }
    }

    [Fact]
    public async Task A_sweep_whose_shards_do_not_add_up_is_not_stored()
    {
        await Assert.ThrowsAsync<ArgumentException>(
            () => Store.CreateSweepAsync(Make.Sweep(5), Make.Shards(2, 2), Cancellation));
        Assert.Equal(0L, await ScalarAsync("SELECT count(*) FROM experiments.sweep"));
        long empty = await Store.CreateSweepAsync(Make.Sweep(0), [], Cancellation);
        Assert.Equal(SweepState.Done, (await Store.ProgressAsync(empty, Cancellation)).State);
    }

    [Fact]
    public async Task A_sweep_that_needs_plug_ins_is_granted_only_to_nodes_that_offer_the_very_same()
    {
        const string Needed = """{"name":"W","version":"1.0.0","sha256":"aa","kernels":["window"],"families":[]}""";
        const string Other = """{"name":"Z","version":"3","sha256":"cc","kernels":["zig"],"families":["zag"]}""";
        const string Whole = """{"name":"W","version":"1.0.0","sha256":"aa","kernels":["door","window"],"families":["walk"]}""";
        long sweep = await Store.CreateSweepAsync(
            Make.Sweep(1, specification: $$"""{"name":"test","plugins":[{{Needed}}]}"""), Make.Shards(1, 1), Cancellation);
        string[] facts =
        [
            "{}", """{"plugins":[]}""", $$"""{"plugins":[{{Other}}]}""", $$"""{"plugins":[{{Whole.Replace("aa", "ab", StringComparison.Ordinal)}}]}""",
            $$"""{"plugins":[{{Whole.Replace("1.0.0", "1.0.1", StringComparison.Ordinal)}}]}""",
            $$"""{"plugins":[{{Whole.Replace("window", "mirror", StringComparison.Ordinal)}}]}""",
        ];
        foreach (string lacking in facts)
        {
            Assert.Empty(await Store.GrantAsync(sweep, [0], await Make.NodeAsync(Store, lacking), Make.LongLease, Cancellation));
        }

        int able = await Make.NodeAsync(Store, $$"""{"plugins":[{{Other}},{{Whole}}]}""");
        Assert.Single(await Store.GrantAsync(sweep, [0], able, Make.LongLease, Cancellation));

        // What is offered is told of every node that is alive, but for the process that asks.
        IReadOnlyList<IReadOnlyList<PlugInIdentity>> offered = await Store.LivePlugInsAsync("host", 0, Cancellation);
        PlugInIdentity needed = new("W", "1.0.0", "aa", ["window"], []);
        Assert.Equal(facts.Length + 1, offered.Count);
        Assert.Equal(1, offered.Count(node => node.Any(p => p.Offers(needed))));
        Assert.Empty(await Store.LivePlugInsAsync("host", Environment.ProcessId, Cancellation));
        await Store.UnregisterNodeAsync(able);
        Assert.Equal(facts.Length, (await Store.LivePlugInsAsync("host", 0, Cancellation)).Count);
    }
}
