using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

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

    /// <summary>Eight instances, each with exact and low rank by a tolerance, on one thread and on three.</summary>
    [Fact]
    public async Task A_summary_tells_which_degrees_were_chosen_and_what_more_threads_bring()
    {
        const int Instances = 8;
        long sweep = await Make.SweepAsync(Store, 1, 4 * Instances);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        await Store.CommitAsync(Make.Commit(lease, node, Enumerable.Range(0, 4 * Instances).Select(Outcome)), Cancellation);
        SweepSummary computed = (await Store.SummariseAsync(sweep, Cancellation))!;
        await Store.KeepSummaryAsync(sweep, Cancellation);
        SweepSummary kept = (await Store.SummariseAsync(sweep, Cancellation))!;
        Assert.Equal(computed.Configurations, kept.Configurations);
        Assert.Equal(computed.Sizes, kept.Sizes);
        Assert.Equal(4, kept.Configurations.Count);

        foreach (SummaryCell cell in kept.Configurations)
        {
            bool chosen = cell.Configuration.Kernel == "low-rank";
            Assert.Equal(chosen ? (3, 6) : (null, null), (cell.FittedDegreeMin, cell.FittedDegreeMax));
            Assert.Equal(chosen ? 8e-4 : 0, cell.PredictedErrorMax ?? 0, 1e-12);

            // Instance 5 on three threads failed, and instance 6 on one.
            if (cell.Configuration.Threads == 1)
            {
                Assert.Null(cell.ThreadSpeedup);
                continue;
            }

            double[] logarithms = [.. Enumerable.Range(0, Instances).Where(i => i is not (5 or 6)).Select(i => Math.Log(Gain(i)))];
            double mean = logarithms.Average(), half = 2.5706 * Math.Sqrt(logarithms.Sum(v => (v - mean) * (v - mean)) / 5 / 6);
            Assert.Equal(6, cell.ThreadSpeedup!.Pairs);
            Assert.Equal(Math.Exp(mean), cell.ThreadSpeedup.Mean, 9);
            Assert.Equal(Math.Exp(mean - half), cell.ThreadSpeedup.Low!.Value, 2e-3);
            Assert.Equal(Math.Exp(mean + half), cell.ThreadSpeedup.High!.Value, 2e-3);
        }

        Assert.Equal(2L, await ScalarAsync(
            $"SELECT count(*) FROM experiments.thread_speedup WHERE sweep_id = {sweep} AND threads = 3 AND fewest_threads = 1 AND instances = 6 "
            + "AND abs(speedup_median - 2.25) < 1e-9 AND abs(speedup_low - 2) < 1e-9 AND abs(speedup_high - 2.7) < 1e-9"));
        Assert.Equal("3 4 5 6", await ScalarAsync(
            $"SELECT string_agg(DISTINCT degree::text, ' ') FROM experiments.error_by_degree WHERE sweep_id = {sweep} AND kernel_parameters->>'degree' = 'auto'"));

        static double Gain(int instance) => 2 + (0.1 * instance);

        static TrialOutcome Outcome(int trial)
        {
            (int instance, int which) = Math.DivRem(trial, 4);
            bool lowRank = which >= 2, many = which % 2 == 1;
            return new()
            {
                Trial = trial,

                // As after an extension, which numbers its instances anew.
                InstanceIndex = many ? Instances - 1 - instance : instance,
                Instance = new InstanceSpec("uniform", 256, 4, 1, instance, 7, new Dictionary<string, object>(), new Dictionary<string, object>()),
                Spec = new TrialSpec(lowRank ? "low-rank" : "exact", "float32", many ? 3 : 1, lowRank
                    ? new Dictionary<string, object> { ["degree"] = "auto", ["tolerance"] = 1e-3 } : new Dictionary<string, object>()),
                Status = instance == (many ? 5 : 6) ? TrialStatus.Failed : TrialStatus.Done,
                SecondsMedian = 0.001 * (instance + 1) / (many ? Gain(instance) : 1),
                FittedDegree = lowRank ? 3 + (instance % 4) : null,
                PredictedExpError = lowRank ? 1e-4 * (instance + 1) : null,
                GradientRelativeError = 1e-6,
                StartedAt = DateTimeOffset.UnixEpoch,
            };
        }
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

        // Just ended, it may not be summed up yet; nobody waits for that longer than for a sample, nor for ever for a summary that nobody makes.
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, Shards - 1, node), node), Cancellation);
        Assert.Equal(200, (await reader.SummariseAsync(sweep, Cancellation, most: 170))!.Sampled);
        await OwnerAsync($"UPDATE experiments.sweep SET finished_at = finished_at - interval '61 s' WHERE id = {sweep}");
        Assert.Null((await reader.SummariseAsync(sweep, Cancellation, most: 170))!.Sampled);
        await OwnerAsync($"UPDATE experiments.sweep SET finished_at = now() WHERE id = {sweep}");
        await Store.KeepSummaryAsync(sweep, Cancellation);
        SweepSummary kept = (await reader.SummariseAsync(sweep, Cancellation, most: 170))!;
        Assert.Null(kept.Sampled);
        Assert.Equal(Shards * Each, kept.Configurations.Sum(c => c.Trials));
    }

    [Fact]
    public async Task A_sample_of_shards_leaves_out_no_configuration_that_any_shard_holds()
    {
        // Forty shards of the exact kernel, among which three hold one trial each of another: by chance they are in a sample of five now and then.
        const int Shards = 40, Each = 40;
        long sweep = await Make.SweepAsync(Store, Shards, Each);
        int node = await Make.NodeAsync(Store);
        StoredConfigurations stored = new();
        HashSet<int> rare = [11, 23, 37];
        for (int shard = 0; shard < Shards - 1; shard++)
        {
            ShardLease lease = await Make.GrantOneAsync(Store, sweep, shard, node);
            ShardCommit commit = Make.Commit(lease, node, Enumerable.Range(0, Each).Select(i => Make.Outcome(lease.FirstTrial + i))
                .Select((o, i) => i == 5 && rare.Contains(shard) ? Rare(o, shard) : Common(o)));
            IReadOnlyDictionary<StoredConfiguration, int> configurations = commit.Rows.Configurations;
            Assert.Equal(Each, configurations.Values.Sum());
            Assert.Equal(rare.Contains(shard) ? 2 : 1, configurations.Count);
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit with { SeenBefore = stored.SeenBefore(configurations) }, Cancellation));
            stored.Add(configurations);
        }

        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        SweepSummary all = (await reader.SummariseAsync(sweep, Cancellation))!, some = (await reader.SummariseAsync(sweep, Cancellation, most: 5 * Each))!;
        Assert.True(some.SampleHasEveryConfiguration);
        Assert.InRange(some.Sampled!.Value, 5 * Each, 2 * 5 * Each);
        Assert.Equal(2, all.Configurations.Count);
        Assert.Equal(4, all.Sizes.Count);
        Assert.Equal(all.Configurations.Select(c => c.Configuration), some.Configurations.Select(c => c.Configuration));
        Assert.Equal(all.Sizes.Select(c => (c.Configuration, c.N)), some.Sizes.Select(c => (c.Configuration, c.N)));
        Assert.Equal(all.Bounds.Select(c => (c.Configuration, c.Bound)), some.Bounds.Select(c => (c.Configuration, c.Bound)));

        // Where one shard was stored by who did not count, nothing is promised.
        await OwnerAsync("UPDATE experiments.shard SET seen_before = NULL WHERE number = 30");
        Assert.False((await reader.SummariseAsync(sweep, Cancellation, most: 5 * Each))!.SampleHasEveryConfiguration);

        static TrialOutcome Common(TrialOutcome outcome) => With(outcome, new TrialSpec("exact", "float32", 1, new Dictionary<string, object>()), 256);

        static TrialOutcome Rare(TrialOutcome outcome, int shard) => With(
            outcome, new TrialSpec("low-rank", "float32", 1, new Dictionary<string, object> { ["degree"] = 2L }), 256 * shard);

        static TrialOutcome With(TrialOutcome outcome, TrialSpec spec, int n) => new()
        {
            Trial = outcome.Trial,
            InstanceIndex = outcome.InstanceIndex,
            Instance = new InstanceSpec(
                "uniform", n, 4, 1, outcome.Instance.Repeat, 7, new Dictionary<string, object>(), new Dictionary<string, object>()),
            Spec = spec,
            SecondsMedian = 0.001,
            GradientRelativeError = 1e-6,
            StartedAt = outcome.StartedAt,
        };
    }

    /// <summary>A process that runs a shard again has counted it already, and would take what only that shard holds for common.</summary>
    [Fact]
    public async Task A_shard_that_is_run_again_stays_as_rare_as_it_ever_was()
    {
        long sweep = await Make.SweepAsync(Store, 1, 3);
        int node = await Make.NodeAsync(Store);
        foreach ((TrialStatus status, int? seen, int? stored) in
            ((TrialStatus, int?, int?)[])[(TrialStatus.Failed, 1, 1), (TrialStatus.Failed, 3, 1), (TrialStatus.Failed, 0, 0), (TrialStatus.Done, null, null)])
        {
            ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, node, status) with { SeenBefore = seen }, Cancellation));
            Assert.Equal(stored ?? -1L, await ScalarAsync("SELECT coalesce(seen_before, -1)::bigint FROM experiments.shard"));
            await Store.RetryAsync(sweep, failed: true, skipped: false, Cancellation);
        }
    }

    [Fact]
    public void A_process_wants_a_configuration_from_three_shards_or_from_one_with_many_trials_and_counts_as_many_as_it_has_room_for()
    {
        StoredConfigurations stored = new();
        Dictionary<StoredConfiguration, int> rare = new() { [Named(0)] = 1 }, common = new() { [Named(1)] = StoredConfigurations.EnoughTrials };
        for (int i = 0; i < StoredConfigurations.Enough + 2; i++)
        {
            Assert.Equal(Math.Min(i, StoredConfigurations.Enough), stored.SeenBefore(rare));
            stored.Add(rare);
        }

        Assert.Equal(0, stored.SeenBefore(common));
        stored.Add(common);
        Assert.Equal(StoredConfigurations.Enough, stored.SeenBefore(common));

        Assert.Equal(0, stored.SeenBefore(new Dictionary<StoredConfiguration, int>(rare.Concat(common)) { [Named(2)] = 1 }));
        stored.Add(Enumerable.Range(0, 10_000).ToDictionary(Named, _ => 1));
        Assert.Null(stored.SeenBefore(rare));

        static StoredConfiguration Named(int i) => new("exact", 16 + i, 4, 1, TrialStatus.Done);
    }

    [Fact]
    public async Task Who_runs_a_sweep_is_told_by_leases_that_hold_and_processes_that_are_connected()
    {
        long sweep = await Make.SweepAsync(Store, 3, 4);
        int node = await Make.NodeAsync(Store);
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        Assert.Equal(new SweepRunners(0, 0, 0, null), await RunnersAsync());

        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        await Make.GrantOneAsync(Store, sweep, 1, node);
        Assert.True(await RunnersAsync() is { Processes: 1, Shards: 2, Attending: 0, LastAt: not null });

        // A lease that has run out is nobody's, and neither is one of a process that is gone.
        await OwnerAsync("UPDATE experiments.shard SET lease_until = clock_timestamp() - interval '1 s' WHERE number = 1");
        Assert.True(await RunnersAsync() is { Processes: 1, Shards: 1 });
        await OwnerAsync("UPDATE experiments.shard SET node_id = NULL WHERE number = 0");
        SweepRunners left = (await RunnersAsync())!;
        Assert.True(left is { Processes: 0, Shards: 0, LastAt: not null });

        await using ResultStore silo = await ResultStore.OpenAsync(Address, Cancellation);
        await Make.NodeAsync(silo, """{"attends": true}""");
        Assert.Equal(left with { Attending = 1 }, await RunnersAsync());

        await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation);
        Assert.Null(await RunnersAsync());

        async Task<SweepRunners?> RunnersAsync() => (await reader.SummariseAsync(sweep, Cancellation))!.Runners;
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
