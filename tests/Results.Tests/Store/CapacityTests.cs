using Experiments.Results.Outcomes;

namespace Experiments.Results.Tests.Store;

/// <summary>Where shards go that were found too large for a silo.</summary>
public sealed class CapacityTests : StoreTest
{
    private const string Small = """{"attends": true, "memory_free_bytes": 1000, "pinning_cores": [0, 1]}""";
    private const string Large = """{"attends": true, "memory_free_bytes": 5000.5, "pinning_cores": [0, 1, 2, 3]}""";

    [Fact]
    public async Task What_does_not_fit_goes_to_a_silo_that_it_fits_and_to_no_other()
    {
        long sweep = await Make.SweepAsync(Store, 2, 1);
        int small = await Make.NodeAsync(Store, Small);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, small);
        Assert.False(await Store.HandOnAsync(lease, small, 4000, null, Cancellation));
        int large = await Make.NodeAsync(Store, Large);
        Assert.False(await Store.HandOnAsync(lease, small, 5001, null, Cancellation));
        Assert.False(await Store.HandOnAsync(lease, small, null, 5, Cancellation));
        Assert.True(await Store.HandOnAsync(lease, small, 4000, null, Cancellation));

        // Given back, so no longer its own to hand on.
        Assert.False(await Store.HandOnAsync(lease, small, 4000, null, Cancellation));
        Assert.Empty(await Store.GrantAsync(sweep, [0], small, Make.LongLease, Cancellation));
        Assert.Single(await Store.GrantAsync(sweep, [1], small, Make.LongLease, Cancellation));
        Assert.Equal((4000.0, null), (await Store.LoadShardsAsync(sweep, Cancellation)).Select(r => (r.NeedsFreeBytes, r.NeedsCores)).First());
        ShardLease taken = await Make.GrantOneAsync(Store, sweep, 0, large);
        Assert.Equal(0, taken.Deaths);
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(lease, small), Cancellation));
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(taken, large), Cancellation));
    }

    [Fact]
    public async Task Where_the_last_silo_with_room_is_gone_anyone_takes_it()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int small = await Make.NodeAsync(Store, Small);
        int large = await Make.NodeAsync(Store, Large);
        Assert.True(await Store.HandOnAsync(await Make.GrantOneAsync(Store, sweep, 0, small), small, null, 3, Cancellation));
        Assert.Empty(await Store.GrantAsync(sweep, [0], small, Make.LongLease, Cancellation));
        await Store.UnregisterNodeAsync(large);
        Assert.Single(await Store.GrantAsync(sweep, [0], small, Make.LongLease, Cancellation));
    }

    [Fact]
    public async Task A_process_that_runs_its_own_sweep_alone_is_no_silo_to_hand_on_to()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int small = await Make.NodeAsync(Store, Small);
        await Make.NodeAsync(Store, Large.Replace("true", "false", StringComparison.Ordinal));
        await Make.NodeAsync(Store, """{"attends": true}""");
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, small);
        Assert.False(await Store.HandOnAsync(lease, small, 2000, null, Cancellation));
        Assert.False(await Store.HandOnAsync(lease, small, null, 3, Cancellation));
        Assert.Single(await Store.RenewAsync([lease], small, Make.LongLease, Cancellation));
        Assert.Equal([1000], await Store.LiveMemoryAsync("host", 0, Cancellation));
    }

    [Fact]
    public async Task A_shard_keeps_the_most_that_was_found_of_it()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int small = await Make.NodeAsync(Store, Small);
        int large = await Make.NodeAsync(Store, Large);
        int largest = await Make.NodeAsync(Store, """{"attends": true, "memory_free_bytes": 9000, "pinning_cores": [0, 1, 2]}""");
        Assert.True(await Store.HandOnAsync(await Make.GrantOneAsync(Store, sweep, 0, small), small, 4000, null, Cancellation));
        ShardLease second = await Make.GrantOneAsync(Store, sweep, 0, large);

        // Nobody has both so many bytes and so many cores.
        Assert.True(await Store.HandOnAsync(second, large, 8000, null, Cancellation));
        ShardLease third = await Make.GrantOneAsync(Store, sweep, 0, largest);
        Assert.False(await Store.HandOnAsync(third, largest, null, 4, Cancellation));
        Assert.Equal((8000.0, null), (await Store.LoadShardsAsync(sweep, Cancellation)).Select(r => (r.NeedsFreeBytes, r.NeedsCores)).Single());
    }
}
