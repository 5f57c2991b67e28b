using Experiments.Results.Outcomes;
using Experiments.Results.Store;

namespace Experiments.Results.Tests.Store;

/// <summary>What counts as a death of a shard, and what does not.</summary>
public sealed class DeathTests : StoreTest
{
    [Fact]
    public async Task Every_process_that_ends_while_it_computes_a_shard_is_counted_and_named()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        List<int> dead = [];
        for (int deaths = 0; deaths < 4; deaths++)
        {
            int node = await Make.NodeAsync(Store);
            ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
            Assert.Equal((deaths, false), (lease.Deaths, lease.SweepIsolated));
            await Store.BegunAsync(lease, node, Cancellation);
            await Store.UnregisterNodeAsync(node);
            dead.Add(node);
        }

        int last = await Make.NodeAsync(Store);
        ShardLease survivor = await Make.GrantOneAsync(Store, sweep, 0, last);
        await Store.BegunAsync(survivor, last, Cancellation);
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(survivor, last), Cancellation));
        Assert.Equal(dead, (int[])(await ScalarAsync("SELECT dead_nodes FROM experiments.shard"))!);
    }

    [Fact]
    public async Task A_lease_that_was_never_begun_is_no_death()
    {
        long sweep = await Make.SweepAsync(Store, 2, 1);
        int node = await Make.NodeAsync(Store);
        ShardLease[] leases = [.. await Store.GrantAsync(sweep, [0, 1], node, Make.LongLease, Cancellation)];
        await Store.BegunAsync(leases[1], node, Cancellation);
        await Store.UnregisterNodeAsync(node);
        int next = await Make.NodeAsync(Store);
        Assert.Equal((0, 1), await DeathsAsync(sweep, next));

        // What was begun under an earlier lease was not under this one.
        await Store.UnregisterNodeAsync(next);
        Assert.Equal((0, 1), await DeathsAsync(sweep, await Make.NodeAsync(Store)));
    }

    [Fact]
    public async Task A_lease_that_was_given_back_is_no_death()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        await Store.BegunAsync(lease, node, Cancellation);
        await Store.ReleaseAsync([lease], node, Cancellation);
        await Store.UnregisterNodeAsync(node);
        Assert.Equal(0, (await Make.GrantOneAsync(Store, sweep, 0, await Make.NodeAsync(Store))).Deaths);
    }

    [Fact]
    public async Task A_lease_that_ran_out_under_a_holder_that_lives_is_no_death()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int holder = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, holder);
        await Store.BegunAsync(lease, holder, Cancellation);
        Assert.Single(await Store.RenewAsync([lease], holder, TimeSpan.Zero, Cancellation));
        ShardLease next = await Make.GrantOneAsync(Store, sweep, 0, await Make.NodeAsync(Store));
        Assert.Equal(0, next.Deaths);

        // Who begins too late says so to no effect: the lease is another's.
        await Store.BegunAsync(lease, holder, Cancellation);
        Assert.Equal(lease.Epoch, await ScalarAsync("SELECT begun_epoch FROM experiments.shard"));
    }

    [Fact]
    public async Task One_that_was_taken_for_dead_takes_itself_out_again()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int first = await Make.NodeAsync(Store);
        int second = await Make.NodeAsync(Store);
        ShardLease lost = await Make.GrantOneAsync(Store, sweep, 0, first);
        await Store.BegunAsync(lost, first, Cancellation);
        await Store.UnregisterNodeAsync(first);
        ShardLease taken = await Make.GrantOneAsync(Store, sweep, 0, second);
        Assert.Equal(1, taken.Deaths);
        await Store.BegunAsync(taken, second, Cancellation);
        await Store.UnregisterNodeAsync(second);
        int third = await Make.NodeAsync(Store);
        Assert.Equal(2, (await Make.GrantOneAsync(Store, sweep, 0, third)).Deaths);
        await Store.SurvivedAsync(lost, first, Cancellation);
        await Store.SurvivedAsync(lost, first, Cancellation);
        await Store.UnregisterNodeAsync(third);
        Assert.Equal(1, (await Make.GrantOneAsync(Store, sweep, 0, await Make.NodeAsync(Store))).Deaths);
        Assert.Equal([second], (int[])(await ScalarAsync("SELECT dead_nodes FROM experiments.shard"))!);
    }

    [Fact]
    public async Task A_death_is_counted_also_where_the_sweep_was_cancelled_and_resumed_since()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        await Store.BegunAsync(lease, node, Cancellation);
        await Store.UnregisterNodeAsync(node);
        Assert.True(await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation));
        Assert.True(await Store.SetSweepStateAsync(sweep, SweepState.Running, Cancellation));
        Assert.Equal(1, (await Make.GrantOneAsync(Store, sweep, 0, await Make.NodeAsync(Store))).Deaths);
    }

    [Fact]
    public async Task Where_a_trial_is_known_to_kill_every_later_lease_of_its_sweep_says_so()
    {
        long sweep = await Make.SweepAsync(Store, 3, 1);
        long other = await Make.SweepAsync(Store, 1, 1);
        int node = await Make.NodeAsync(Store);
        ShardLease killer = await Make.GrantOneAsync(Store, sweep, 0, node);
        ShardCommit commit = Make.Commit(killer, node) with { Kills = true };
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit, Cancellation));

        // A commit without one does not take it back.
        ShardLease second = await Make.GrantOneAsync(Store, sweep, 1, node);
        Assert.True(second.SweepIsolated);
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(second, node), Cancellation));
        Assert.True((await Make.GrantOneAsync(Store, sweep, 2, node)).SweepIsolated);
        Assert.False((await Make.GrantOneAsync(Store, other, 0, node)).SweepIsolated);

        // One that was fenced says nothing.
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(
            Make.Commit(killer with { SweepId = other, Epoch = 7 }, node) with { Kills = true }, Cancellation));
        Assert.Equal(1L, await ScalarAsync("SELECT count(*) FROM experiments.sweep WHERE isolated"));
    }

    [Fact]
    public async Task While_two_have_died_with_a_shard_the_others_are_isolated_too_until_it_is_done_and_nobody_s_fault()
    {
        long sweep = await Make.SweepAsync(Store, 3, 1);
        long other = await Make.SweepAsync(Store, 1, 1);
        for (int deaths = 0; deaths < 2; deaths++)
        {
            int node = await Make.NodeAsync(Store);
            ShardLease lease = await Make.GrantOneAsync(Store, sweep, 1, node);
            await Store.BegunAsync(lease, node, Cancellation);
            await Store.UnregisterNodeAsync(node);
        }

        int last = await Make.NodeAsync(Store);
        ShardLease suspected = await Make.GrantOneAsync(Store, sweep, 1, last);
        Assert.Equal((2, false), (suspected.Deaths, suspected.SweepIsolated));
        ShardLease second = await Make.GrantOneAsync(Store, sweep, 0, last);
        Assert.Equal((0, true), (second.Deaths, second.SweepIsolated));
        Assert.False((await Make.GrantOneAsync(Store, other, 0, last)).SweepIsolated);
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(suspected, last), Cancellation));
        Assert.False((await Make.GrantOneAsync(Store, sweep, 2, last)).SweepIsolated);
    }

    private async Task<(int First, int Second)> DeathsAsync(long sweep, int node)
    {
        IReadOnlyList<ShardLease> leases = await Store.GrantAsync(sweep, [0, 1], node, Make.LongLease, Cancellation);
        return (leases.Single(l => l.Shard == 0).Deaths, leases.Single(l => l.Shard == 1).Deaths);
    }
}
