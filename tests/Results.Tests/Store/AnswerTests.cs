using Experiments.Results.Outcomes;
using Experiments.Results.Store;

namespace Experiments.Results.Tests.Store;

public sealed class AnswerTests : StoreTest
{
    [Fact]
    public async Task A_summary_groups_by_configuration_and_gives_the_medians_interval()
    {
        long sweep = await StoreAsync(400, TrialStatus.Done);
        SweepSummary summary = (await Store.SummariseAsync(sweep, Cancellation))!;
        Assert.Equal(4, summary.Configurations.Count);
        SummaryCell two = summary.Configurations.Single(s => s.Configuration.Degree == 2);
        Assert.Equal(100, two.Done);
        Assert.Equal(0.1, two.ErrorMedian!.Value, 12);

        // The speed-ups are 1.501, 1.505, … 1.897.
        double[] logarithms = [.. Enumerable.Range(0, 100).Select(i => Math.Log(1.501 + (0.004 * i)))];
        double mean = logarithms.Average();
        double half = 1.9842 * Math.Sqrt(logarithms.Sum(v => (v - mean) * (v - mean)) / 99) / 10;
        Assert.Equal(100, two.Speedup!.Pairs);
        Assert.Equal(Math.Exp(mean), two.Speedup.Mean, 9);
        Assert.Equal(Math.Exp(mean - half), two.Speedup.Low!.Value, 5);
        Assert.Equal(Math.Exp(mean + half), two.Speedup.High!.Value, 5);
        Assert.Equal(12, summary.Sizes.Count);
        Assert.Equal(20, summary.Bounds.Count);
        Assert.Equal(400, summary.Sizes.Sum(c => c.Trials));
        Assert.Equal(400, summary.Bounds.Sum(c => c.Trials));
        Assert.Equal(400, Assert.Single(summary.Nodes).Trials);
        Assert.Null(await Store.SummariseAsync(sweep + 1, Cancellation));
    }

    [Fact]
    public async Task A_kernels_rate_is_what_its_stored_trials_did_in_the_time_that_they_took()
    {
        Assert.Empty(await Store.MeasuredRatesAsync(Cancellation));
        await StoreAsync(12, TrialStatus.Failed);
        await StoreAsync(400, TrialStatus.Done);
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        IReadOnlyDictionary<(string Kernel, string Precision), double> rates = await reader.MeasuredRatesAsync(Cancellation);

        // 1e6 operations each, in 1.1, 2.2 and 3.3 ms by turns; failed ones say nothing.
        int[] exact = [.. Enumerable.Range(0, 100).Select(i => 4 * i)], lowRank = [.. Enumerable.Range(0, 400).Except(exact)];
        Assert.Equal(2, rates.Count);
        Assert.Equal(Rate(exact), rates[("exact", "float32")], 1e-6 * 1e9);
        Assert.Equal(Rate(lowRank), rates[("low-rank", "float32")], 1e-6 * 1e9);

        static double Rate(int[] trials) => 1e6 * trials.Length / trials.Sum(t => 0.0011 * (1 + (t % 3)));
    }

    [Fact]
    public async Task A_long_sweep_that_runs_is_summed_up_from_some_of_its_shards()
    {
        const int Shards = 20, Each = 40;
        long sweep = await Make.SweepAsync(Store, Shards, Each);
        int node = await Make.NodeAsync(Store);
        for (int shard = 0; shard < Shards - 1; shard++)
        {
            await Store.CommitAsync(
                Make.Commit(await Make.GrantOneAsync(Store, sweep, shard, node), node, shard == 3 ? TrialStatus.Failed : TrialStatus.Done), Cancellation);
        }

        const long Stored = (Shards - 1) * Each;
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        SweepSummary all = (await reader.SummariseAsync(sweep, Cancellation))!, enough = (await reader.SummariseAsync(sweep, Cancellation, most: Stored))!;
        Assert.Null(all.Sampled);
        Assert.Null(enough.Sampled);
        Assert.Equal(Stored, all.Configurations.Sum(c => c.Trials));

        SweepSummary some = (await reader.SummariseAsync(sweep, Cancellation, most: 170))!;
        Assert.Equal(200, some.Sampled);
        Assert.Equal(Stored, some.Facts.Sweep.Stored);
        Assert.Equal(200, some.Configurations.Sum(c => c.Trials));
        Assert.Contains(all.Configurations, c => c.Speedup is { Low: not null, High: not null });
        Assert.Contains(some.Configurations, c => c.Speedup is not null);
        Assert.All(some.Configurations, c => Assert.True(c.Speedup is null or { Low: null, High: null }));
        Assert.Equal(all.Configurations.Select(c => c.Configuration), some.Configurations.Select(c => c.Configuration));
        Assert.Equal(some.Configurations, (await reader.SummariseAsync(sweep, Cancellation, most: 170))!.Configurations);

        // What failed is not left to chance.
        Assert.Equal(all.Failures, some.Failures);
        Assert.Equal(Each, some.Failures.Sum(f => f.Trials));

        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, Shards - 1, node), node), Cancellation);
        Assert.Null((await reader.SummariseAsync(sweep, Cancellation, most: 170))!.Sampled);
    }

    [Fact]
    public async Task A_kept_summary_is_the_computed_one_until_the_sweep_changes()
    {
        long sweep = await StoreAsync(40, TrialStatus.Failed);
        SweepSummary computed = (await Store.SummariseAsync(sweep, Cancellation))!;
        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Store.KeepSummaryAsync(sweep, Cancellation)));
        await Store.KeepSummaryAsync(sweep, Cancellation);
        Assert.Equal(computed.Configurations.Count + 12 + 20, (int)(long)(await ScalarAsync("SELECT count(*) FROM experiments.summary"))!);
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        SweepSummary kept = (await reader.SummariseAsync(sweep, Cancellation))!;
        Assert.Equal(computed.Configurations, kept.Configurations);
        Assert.Equal(computed.Sizes, kept.Sizes);
        Assert.Equal(computed.Bounds, kept.Bounds);
        Assert.Equal(computed.Failures, kept.Failures);
        Assert.NotEmpty(kept.Failures);

        // Nothing but what is kept is read: a sign on it is seen.
        await OwnerAsync("UPDATE experiments.summary SET error_median = 42");
        Assert.All((await reader.SummariseAsync(sweep, Cancellation))!.Configurations, c => Assert.Equal(42, c.ErrorMedian));

        // A retry makes it void, and so does the sweep's second end.
        Assert.Equal(40, await Store.RetryAsync(sweep, failed: true, skipped: false, Cancellation));
        Assert.Empty((await reader.SummariseAsync(sweep, Cancellation))!.Configurations);
        await Store.KeepSummaryAsync(sweep, Cancellation);
        int node = await Make.NodeAsync(Store);
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node), Cancellation);
        SweepSummary again = (await reader.SummariseAsync(sweep, Cancellation))!;
        Assert.Equal(40, again.Configurations.Sum(c => c.Done));
        Assert.Empty(again.Failures);
        await Store.KeepSummaryAsync(sweep, Cancellation);
        Assert.Equal(again.Configurations, (await reader.SummariseAsync(sweep, Cancellation))!.Configurations);
        await Store.DeleteSweepAsync(sweep, Cancellation);
        Assert.Equal(0L, await ScalarAsync("SELECT count(*) FROM experiments.summary"));
    }

    [Fact]
    public async Task An_answer_is_read_as_the_reader_and_else_as_whoever_may()
    {
        long sweep = await StoreAsync(4, TrialStatus.Done);
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        Assert.Equal(sweep, await reader.FindSweepAsync("last", Cancellation));
        await Assert.ThrowsAsync<StoreUnavailableException>(() => reader.RetryAsync(sweep, failed: true, skipped: false, Cancellation));

        await using ResultStore writer = await ResultStore.OpenReaderAsync(Address with { Reader = "" }, Cancellation);
        Assert.Equal(sweep, await writer.FindSweepAsync("test", Cancellation));
        Assert.Null(await writer.FindSweepAsync("nothing", Cancellation));
        Assert.Equal(0, await writer.CountReferencesAsync([Guid.NewGuid()], Cancellation));
    }

    [Fact]
    public async Task Failures_are_grouped_by_reason()
    {
        long sweep = await StoreAsync(8, TrialStatus.Failed);
        IReadOnlyList<FailureGroup> groups = (await Store.SummariseAsync(sweep, Cancellation))!.Failures;
        Assert.Equal(new FailureGroup("failed", "low-rank", 6, 1, "it was told to"), groups[0]);
        Assert.Equal(new FailureGroup("failed", "exact", 2, 0, "it was told to"), groups[1]);
    }

    [Fact]
    public async Task An_export_streams_every_trial_with_its_columns()
    {
        long sweep = await StoreAsync(40, TrialStatus.Done);
        await using ResultRows rows = await Store.ExportTrialsAsync(sweep, Cancellation);
        Assert.Contains(rows.Columns, c => c is { Name: "seconds_median", PostgresType: "double precision" });
        Assert.Contains(rows.Columns, c => c is { Name: "started_at" } && c.Type == typeof(DateTimeOffset));
        Assert.Equal(40, await rows.ReadAsync(Cancellation).CountAsync(Cancellation));
    }

    [Fact]
    public async Task A_scaling_fit_recovers_the_exponent()
    {
        long sweep = await Store.CreateSweepAsync(Make.Sweep(12), Make.Shards(1, 12), Cancellation);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        List<TrialOutcome> outcomes = [];
        for (int i = 0; i < 12; i++)
        {
            TrialOutcome outcome = Make.Outcome(0);
            int n = 64 << (i / 2);
            outcomes.Add(new TrialOutcome
            {
                Trial = i,
                InstanceIndex = i,
                Instance = outcome.Instance with { N = n, Bound = 1 },
                Spec = outcome.Spec,
                SecondsMedian = 1e-9 * Math.Pow(n, 1.5) * (i % 2 == 0 ? 1.01 : 1 / 1.01),
                StartedAt = outcome.StartedAt,
            });
        }

        await Store.CommitAsync(Make.Commit(lease, node, outcomes), Cancellation);
        await using ResultRows rows = await ReaderQuery.RunAsync(
            Address, "SELECT exponent, exponent_low, exponent_high FROM scaling_fit", null, Cancellation);
        object?[] row = Assert.Single(await rows.ReadAsync(Cancellation).ToListAsync(Cancellation));
        Assert.Equal(1.5, (double)row[0]!, 6);
        Assert.InRange((double)row[2]! - (double)row[1]!, 0.001, 0.02);
    }

    private async Task<long> StoreAsync(int trials, TrialStatus status)
    {
        long sweep = await Make.SweepAsync(Store, 1, trials);
        int node = await Make.NodeAsync(Store);
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node, status), Cancellation);
        return sweep;
    }
}
