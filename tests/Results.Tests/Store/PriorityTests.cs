using System.Threading.Channels;
using Experiments.Results.Archives;
using Experiments.Results.Store;
using Experiments.Testing;

namespace Experiments.Results.Tests.Store;

public sealed class PriorityTests : StoreTest
{
    [Fact]
    public async Task A_sweep_has_the_priority_that_it_was_made_with_wherever_it_is_read()
    {
        long plain = await Make.SweepAsync(Store, 1, 4);
        long urgent = await CreateAsync(7);
        Assert.Equal((0, 7), (await PriorityAsync(Store, plain), await PriorityAsync(Store, urgent)));
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        Assert.Equal([(urgent, 7), (plain, 0)], (await reader.ListSweepsAsync(null, 10, null, Cancellation)).Select(s => (s.Id, s.Priority)));
        SweepSummary summary = (await reader.SummariseAsync(urgent, Cancellation))!;
        Assert.Equal((7, "Does it hold?"), (summary.Facts.Sweep.Priority, summary.Facts.Question));
        Assert.Equal(7, (await reader.ProgressAsync(urgent, Cancellation)).Priority);
    }

    [Theory]
    [InlineData(-100, true)]
    [InlineData(100, true)]
    [InlineData(-101, false)]
    [InlineData(101, false)]
    public async Task It_lies_within_a_hundred_of_nought(int priority, bool isAllowed)
    {
        long sweep = await Make.SweepAsync(Store, 1, 4);
        if (isAllowed)
        {
            Assert.Equal(priority, await PriorityAsync(Store, await CreateAsync(priority)));
            Assert.True(await Store.SetPriorityAsync(sweep, priority, Cancellation));
            Assert.Equal(priority, await PriorityAsync(Store, sweep));
            return;
        }

        Exception made = await Assert.ThrowsAnyAsync<Exception>(() => CreateAsync(priority));
        Assert.Contains("sweep_priority_check", made.ToString(), StringComparison.Ordinal);
        Exception set = await Assert.ThrowsAnyAsync<Exception>(() => Store.SetPriorityAsync(sweep, priority, Cancellation));
        Assert.Contains("sweep_priority_check", set.ToString(), StringComparison.Ordinal);
        Assert.Equal(0, await PriorityAsync(Store, sweep));
    }

    [Fact]
    public async Task A_change_is_told_to_nodes_and_what_changes_nothing_is_not()
    {
        long sweep = await Make.SweepAsync(Store, 1, 4);
        long other = await Make.SweepAsync(Store, 1, 4);
        Channel<long?> told = Channel.CreateUnbounded<long?>();
        await Store.RegisterNodeAsync(
            new NodeRow("node", "host", Environment.ProcessId, "{}"), s => told.Writer.TryWrite(s), Cancellation);
        Assert.False(await Store.SetPriorityAsync(other + 1, 3, Cancellation));

        // Of the first, which is what it was, nothing is said: the first to be heard of is the second.
        Assert.True(await Store.SetPriorityAsync(sweep, 0, Cancellation));
        Assert.True(await Store.SetPriorityAsync(other, 3, Cancellation));
        Assert.True(await Store.SetPriorityAsync(sweep, -3, Cancellation));
        Assert.Equal([other, sweep], [await NextAsync(), await NextAsync()]);

        // A node that has only just begun to listen may look at all of them once.
        async Task<long?> NextAsync()
        {
            using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
            limit.CancelAfter(TimeSpan.FromMinutes(1));
            long? next;
            do
            {
                next = await told.Reader.ReadAsync(limit.Token);
            }
            while (next is null);
            return next;
        }
    }

    [Fact]
    public async Task An_archive_keeps_it()
    {
        using MemoryStream file = new();
        Assert.NotNull(await Store.ExportArchiveAsync(await CreateAsync(-12), file, "0.1.0+test", Cancellation));
        await using ResultStore elsewhere = await ResultStore.OpenAsync(await TestPostgres.CreateDatabaseAsync(), Cancellation);
        using SweepArchive archive = await SweepArchive.OpenAsync(new MemoryStream(file.ToArray()), "a.zip", Cancellation);
        ImportedSweep imported = await elsewhere.ImportArchiveAsync(archive, again: false, Cancellation);
        Assert.Equal(-12, await PriorityAsync(elsewhere, imported.Id));
    }

    private static async Task<int> PriorityAsync(ResultStore store, long sweep) => (await store.FindSweepAsync(sweep, Cancellation))!.Priority;

    private Task<long> CreateAsync(int priority) =>
        Store.CreateSweepAsync(Make.Sweep(4) with { Priority = priority }, Make.Shards(1, 4), Cancellation);
}
