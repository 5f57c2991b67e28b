using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Numerics;
using Experiments.Grains.Worker;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo;
using Experiments.Testing;

namespace Experiments.Grains.Tests;

/// <summary>Whole sweeps, from the stored specification to the stored outcomes, on real silos and a real Postgres.</summary>
public sealed class LocalSiloTests
{
    private const string Small = """
        name: small
        seed: 5
        instances:
          family: uniform
          n: [16, 24]
          d: 4
          bound: [0.5, 1]
          repeats: 5
        kernels:
          - kernel: exact
            precision: [float32, float64]
          - kernel: low-rank
            degree: [2, 4]
            precision: float32
        measure: {rounds: 2, min_time: 0, max_noise: 0}
        """;

    private const string Slow = """
        name: slow
        seed: 5
        instances: {family: uniform, n: 8, d: 2, bound: 1, repeats: 12}
        kernels: [{kernel: slow, precision: float64}]
        measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none}
        """;

    private static CancellationToken None => CancellationToken.None;

    [Fact]
    public async Task A_sweep_runs_to_its_end_and_stores_every_planned_trial_once()
    {
        await using SiloFixture fixture = await SiloFixture.CreateAsync();
        long sweep = await fixture.CreateSweepAsync(Small);
        await using LocalSilo silo = await fixture.SiloAsync();
        SweepEnd end = await silo.RunAsync(sweep, None, None);

        Assert.Equal(SweepEnding.Done, end.Ending);
        Assert.Equal(80, end.Progress.Done);
        Assert.Equal(0, end.SpansDropped);
        await fixture.AssertCompleteAsync(sweep, 80);
        Assert.Equal("done", await fixture.ScalarAsync<string>($"SELECT state FROM experiments.sweep WHERE id = {sweep}"));
        Assert.Equal(0, await fixture.ScalarAsync<long>(
            "SELECT count(*) FROM experiments.trial WHERE gradient_relative_error IS NULL OR gradient_relative_error > 0.5"));
        RunSnapshot snapshot = silo.Snapshot()!;
        Assert.Equal((80, 80, 0, 0), (snapshot.Total, snapshot.Done, snapshot.Failed, snapshot.Skipped));
        Assert.Equal(TimeSpan.Zero, snapshot.Remaining);
    }

    [Fact]
    public async Task A_pinned_trial_runs_on_a_core_of_its_own_and_its_row_says_so()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "threads are pinned on Linux only");
        Looking looking = new();
        await using SiloFixture fixture = await SiloFixture.CreateAsync(looking);
        long sweep = await fixture.CreateSweepAsync("""
            name: pinned
            seed: 5
            instances: {family: uniform, n: 8, d: 2, bound: 1}
            kernels: [{kernel: looking, pin: [false, true], threads: [1, 4096]}]
            measure: {rounds: 2, min_time: 0, max_noise: 0, reference: none}
            """);
        await using LocalSilo silo = await fixture.SiloAsync();
        await silo.RunAsync(sweep, None, None);

        string core = $"{Pinning.Cores[0]}";
        Assert.Equal([core], looking.Pinned.Distinct());
        Assert.All(looking.Free, seen => Assert.Equal(looking.OfProcess, seen));
        List<object?[]> rows = await fixture.RowsAsync(
            $"SELECT kernel_parameters->>'pin', threads, status, reason FROM experiments.trial WHERE sweep_id = {sweep} ORDER BY 1, 2");
        Assert.Equal(["false/1/done", "false/4096/done", "true/1/done", "true/4096/skipped"], rows.Select(r => $"{r[0]}/{r[1]}/{r[2]}"));
        Assert.Contains("for 4096 threads", (string)rows[3][3]!, StringComparison.Ordinal);
        Assert.Equal(core, await fixture.ScalarAsync<string>("SELECT facts->'pinning_cores'->>0 FROM experiments.node"));
    }

    /// <summary>One instance each, so that a table of medians would hide that two calls were one row of it.</summary>
    [Fact]
    public async Task Calls_under_a_mask_of_another_scale_or_of_several_heads_are_rows_of_their_own_in_every_table()
    {
        await using SiloFixture fixture = await SiloFixture.CreateAsync();
        long sweep = await fixture.CreateSweepAsync("""
            name: shapes
            seed: 5
            instances: {family: uniform, n: [16, 24], d: 2, bound: 1, mask: [none, causal], scale: [d, sqrt-d], heads: [1, 2]}
            kernels:
              - {kernel: exact, precision: float64, gradients: all}
              - {kernel: low-rank, degree: 2, precision: float64, gradients: all, where: mask == none}
            measure: {rounds: 2, min_time: 0, max_noise: 0}
            """);
        await using LocalSilo silo = await fixture.SiloAsync();
        await silo.RunAsync(sweep, None, None);

        string[] lowRank = ["2 all", "all", "sqrt-d 2 all", "sqrt-d all"];
        string[] exact = [.. lowRank, "causal 2 all", "causal all", "causal sqrt-d 2 all", "causal sqrt-d all"];
        exact.Sort(StringComparer.Ordinal);
        Assert.Equal(exact, await Of("FROM experiments.summarise({0}) WHERE axis = 'none' AND kernel = 'exact'"));
        Assert.Equal(exact, await Of("FROM experiments.scaling_fit WHERE sweep_id = {0} AND kernel = 'exact'"));
        Assert.Equal(lowRank, await Of("FROM experiments.summarise({0}) WHERE axis = 'none' AND kernel = 'low-rank'"));
        Assert.Equal(lowRank, await Of("FROM experiments.paired_speedup WHERE sweep_id = {0} AND n = 16"));
        Assert.Equal(lowRank, await Of("FROM experiments.error_by_degree WHERE sweep_id = {0} AND n = 24"));
        Assert.Equal(lowRank, await Of("FROM experiments.boundary WHERE sweep_id = {0} AND n = 24 AND tolerance = 0.1"));

        async Task<string[]> Of(string from) => [.. (await fixture.RowsAsync(
            "SELECT concat_ws(' ', p->>'mask', p->>'scale', p->>'heads', p->>'gradients') FROM (SELECT kernel_parameters AS p "
            + string.Format(CultureInfo.InvariantCulture, from, sweep) + ") AS told"))
            .Select(row => (string)row[0]!).Order(StringComparer.Ordinal)];
    }

    [Fact]
    public async Task A_sweep_that_is_done_is_not_run_again()
    {
        SiloFixture.Slow slow = new(TimeSpan.Zero);
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync(Slow);
        await using LocalSilo silo = await fixture.SiloAsync();
        Assert.Equal(SweepEnding.Done, (await silo.RunAsync(sweep, None, None)).Ending);
        int calls = slow.Calls;
        Assert.Equal(SweepEnding.Done, (await silo.RunAsync(sweep, None, None)).Ending);

        Assert.Equal(calls, slow.Calls);
        await fixture.AssertCompleteAsync(sweep, 12);
    }

    /// <summary>Another node holds a shard, lives, renews its lease and never ends: without a second lease the sweep would not end either.</summary>
    [Fact]
    public async Task A_shard_that_another_node_holds_for_too_long_is_computed_beside_it_and_stored_once()
    {
        await using SiloFixture fixture = await SiloFixture.CreateAsync();
        long sweep = await fixture.CreateSweepAsync(Small, shardTrials: 8);
        int straggler = await fixture.Store.RegisterNodeAsync(new NodeRow("straggler", "elsewhere", 1, "{}"), told: null, None);
        ShardLease held = Assert.Single(await fixture.Store.GrantAsync(sweep, [2], straggler, TimeSpan.FromHours(1), None));
        await using LocalSilo silo = await fixture.SiloAsync();
        SweepEnd end = await silo.RunAsync(sweep, None, None);

        Assert.Equal(SweepEnding.Done, end.Ending);
        await fixture.AssertCompleteAsync(sweep, 80);
        Assert.Equal($"{straggler} false {held.Epoch}", await fixture.ScalarAsync<string>(
            "SELECT concat_ws(' ', node_id, (committed_node = node_id)::text, committed_epoch) "
            + $"FROM experiments.shard WHERE sweep_id = {sweep} AND number = 2"));
        Assert.Empty(await fixture.Store.RenewAsync([held], straggler, TimeSpan.FromHours(1), None));
    }

    [Fact]
    public async Task Only_the_named_sweep_is_run()
    {
        await using SiloFixture fixture = await SiloFixture.CreateAsync();
        long other = await fixture.CreateSweepAsync(Small);
        long sweep = await fixture.CreateSweepAsync(Small);
        await using LocalSilo silo = await fixture.SiloAsync();
        await silo.RunAsync(sweep, None, None);

        Assert.Equal(0, await fixture.ScalarAsync<long>($"SELECT count(*) FROM experiments.trial WHERE sweep_id = {other}"));
    }

    [Fact]
    public async Task A_sweep_that_is_not_there_is_named_in_the_fault()
    {
        await using SiloFixture fixture = await SiloFixture.CreateAsync();
        await using LocalSilo silo = await fixture.SiloAsync();

        ArgumentException fault = await Assert.ThrowsAsync<ArgumentException>(() => silo.RunAsync(77, None, None));
        Assert.Contains("no sweep 77", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Two_processes_share_a_sweep_and_store_each_trial_once()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromMilliseconds(20));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        await using LocalSilo one = await fixture.SiloAsync();
        await using LocalSilo two = await fixture.SiloAsync();
        SweepEnd[] ends = await Task.WhenAll(one.RunAsync(sweep, None, None), two.RunAsync(sweep, None, None));

        Assert.All(ends, e => Assert.Equal(SweepEnding.Done, e.Ending));
        await fixture.AssertCompleteAsync(sweep, 12);
        Assert.Equal(2, await fixture.ScalarAsync<long>("SELECT count(DISTINCT node_id) FROM experiments.trial"));
    }

    // Looks at nothing by itself for longer than any test waits: what happens sooner was heard of.
    private static readonly SweepWorkerOptions OnlyTold = new() { LookEvery = TimeSpan.FromMinutes(30), RenewEvery = TimeSpan.FromMinutes(30) };

    [Fact]
    public async Task A_cancellation_is_heard_of_and_stops_a_kernel_in_its_midst()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromHours(1));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync(OnlyTold);
        Task<SweepEnd> running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > 0);
        long start = Stopwatch.GetTimestamp();
        await CancelledAsync(fixture, sweep, running);
        TestContext.Current.TestOutputHelper?.WriteLine($"stopped after {Stopwatch.GetElapsedTime(start).TotalMilliseconds:F0} ms");
        Assert.Equal(0, await fixture.ScalarAsync<long>("SELECT count(*) FROM experiments.shard WHERE state <> 'ready'"));
        Assert.Equal(0, await fixture.ScalarAsync<long>("SELECT count(*) FROM experiments.trial"));
    }

    [Fact]
    public async Task A_cancellation_that_fell_where_nobody_listened_is_found_when_the_connection_is_back()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromHours(1));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync(OnlyTold);
        Task<SweepEnd> running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > 0);

        // Both in one statement's time: the connection is made again half a second later at the soonest.
        await fixture.RowsAsync("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'experiments node' AND datname = current_database()");
        await CancelledAsync(fixture, sweep, running);

        // And what is said after that is heard again.
        Assert.True(await fixture.Store.SetSweepStateAsync(sweep, SweepState.Running, None));
        int calls = slow.Calls;
        running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > calls);
        await CancelledAsync(fixture, sweep, running);
    }

    [Fact]
    public async Task A_cancellation_of_which_nothing_is_said_is_found_by_looking()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromHours(1));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        await fixture.RowsAsync("DROP TRIGGER sweep_state_changed ON experiments.sweep");
        long sweep = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync();
        Task<SweepEnd> running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > 0);
        await CancelledAsync(fixture, sweep, running);
    }

    [Fact]
    public async Task A_cancellation_that_shows_first_in_a_lease_that_is_not_renewed_gives_the_leases_back()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromHours(1));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        await fixture.RowsAsync("DROP TRIGGER sweep_state_changed ON experiments.sweep");
        long sweep = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync(OnlyTold with { RenewEvery = TimeSpan.FromMilliseconds(200) });
        Task<SweepEnd> running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > 0);
        await CancelledAsync(fixture, sweep, running);
        Assert.Equal(0, silo.Snapshot()!.LeasesLost);
        Assert.Equal(0, await fixture.ScalarAsync<long>("SELECT count(*) FROM experiments.shard WHERE state <> 'ready'"));
    }

    [Fact]
    public async Task A_sweep_cancelled_elsewhere_stops_and_goes_on_when_it_is_resumed()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromSeconds(30));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync();
        Task<SweepEnd> running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > 0);
        Assert.True(await fixture.Store.SetSweepStateAsync(sweep, SweepState.Cancelled, None));

        Assert.Equal(SweepEnding.Cancelled, (await running).Ending);
        Assert.Equal(0, await fixture.ScalarAsync<long>("SELECT count(*) FROM experiments.trial"));

        slow.Wait = TimeSpan.Zero;
        Assert.True(await fixture.Store.SetSweepStateAsync(sweep, SweepState.Running, None));
        Assert.Equal(SweepEnding.Done, (await silo.RunAsync(sweep, None, None)).Ending);
        await fixture.AssertCompleteAsync(sweep, 12);
    }

    [Fact]
    public async Task An_interrupted_sweep_keeps_what_it_stored_gives_back_the_rest_and_resumes_to_the_same_bits()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromMilliseconds(60));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long disturbed = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        long quiet = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        using (CancellationTokenSource finish = new())
        {
            await using LocalSilo first = await fixture.SiloAsync();
            Task<SweepEnd> running = first.RunAsync(disturbed, finish.Token, None);
            await UntilAsync(() => first.Snapshot() is { Done: >= 2 });
            await finish.CancelAsync();
            SweepEnd end = await running;
            Assert.Equal(SweepEnding.Interrupted, end.Ending);
            Assert.InRange(end.Progress.Done, 2, 11);
            Assert.Equal(0, end.Progress.ShardsLeased);
        }

        await using LocalSilo second = await fixture.SiloAsync();
        Assert.Equal(SweepEnding.Done, (await second.RunAsync(disturbed, None, None)).Ending);
        Assert.Equal(SweepEnding.Done, (await second.RunAsync(quiet, None, None)).Ending);
        await fixture.AssertCompleteAsync(disturbed, 12);
        Assert.Equal(
            await fixture.RowsAsync($"SELECT trial, digest FROM experiments.trial WHERE sweep_id = {disturbed} ORDER BY trial"),
            await fixture.RowsAsync($"SELECT trial, digest FROM experiments.trial WHERE sweep_id = {quiet} ORDER BY trial"));
    }

    [Fact]
    public async Task Told_to_stop_now_it_cancels_the_kernels_and_gives_their_leases_back()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromMinutes(5));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync();
        using CancellationTokenSource finish = new();
        using CancellationTokenSource now = new();
        Task<SweepEnd> running = silo.RunAsync(sweep, finish.Token, now.Token);
        await UntilAsync(() => slow.Calls > 0);
        RunSnapshot busy = silo.Snapshot()!;
        Assert.Contains(busy.Lanes, l => l.Instance == "uniform n=8 d=2 bound=1 repeat=0" || l.Instance is not null);
        await finish.CancelAsync();
        await now.CancelAsync();
        SweepEnd end = await running;

        Assert.Equal(SweepEnding.Interrupted, end.Ending);
        Assert.Equal(0, end.Progress.ShardsLeased);
        Assert.Equal(0, end.Progress.Done);
    }

    [Fact]
    public async Task A_store_that_goes_away_ends_the_run_with_a_message_for_a_person_and_stops_the_kernels()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromMilliseconds(300));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync();
        Task<SweepEnd> running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > 0);
        string name = await fixture.ScalarAsync<string>("SELECT current_database()");
        TestPostgres server = await TestPostgres.SharedAsync();
        await server.ExecuteAsync($"ALTER DATABASE {name} ALLOW_CONNECTIONS false");
        await server.ExecuteAsync($"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");

        await Assert.ThrowsAsync<StoreUnavailableException>(() => running);
        Assert.All(silo.Snapshot()!.Lanes, l => Assert.Null(l.Instance));
    }

    [Fact]
    public async Task A_lease_taken_over_by_another_is_dropped_and_nothing_is_stored_twice()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromMilliseconds(700));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync(Slow.Replace("repeats: 12", "repeats: 2", StringComparison.Ordinal), shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync();
        Task<SweepEnd> running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > 0);

        // As if the silo had been paused beyond its lease, and another had been granted the shard and then died.
        await fixture.RowsAsync(
            "UPDATE experiments.shard SET epoch = epoch + 1, node_id = NULL, lease_until = now() WHERE state = 'leased' AND number = 0");
        Assert.Equal(SweepEnding.Done, (await running).Ending);
        await fixture.AssertCompleteAsync(sweep, 2);
        Assert.True(silo.Snapshot()!.LeasesLost > 0);
    }

    [Fact]
    public async Task A_failed_trial_that_is_put_back_is_run_again_by_the_same_silo_and_no_other_trial_is()
    {
        SiloFixture.Slow slow = new(TimeSpan.Zero) { Broken = true };
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long sweep = await fixture.CreateSweepAsync("""
            name: failing
            seed: 5
            instances: {family: uniform, n: 16, d: 4, bound: 1, repeats: 4}
            kernels:
              - kernel: exact
                precision: float64
              - kernel: slow
                precision: float64
            measure: {rounds: 1, min_time: 0, max_noise: 0}
            """);
        await using LocalSilo silo = await fixture.SiloAsync();
        SweepEnd end = await silo.RunAsync(sweep, None, None);
        Assert.Equal((4, 4), (end.Progress.Done, end.Progress.Failed));
        await fixture.AssertCompleteAsync(sweep, 8);
        string measured = $"SELECT trial, seconds FROM experiments.sample WHERE sweep_id = {sweep} AND trial IN "
            + $"(SELECT trial FROM experiments.trial WHERE sweep_id = {sweep} AND kernel = 'exact') ORDER BY trial";
        List<object?[]> before = await fixture.RowsAsync(measured);
        Assert.Equal(4, before.Count);

        // The sweep's grain is alive and remembers every shard as done.
        slow.Broken = false;
        Assert.Equal(4, await fixture.Store.RetryAsync(sweep, failed: true, skipped: false, None));
        end = await silo.RunAsync(sweep, None, None);
        Assert.Equal(SweepEnding.Done, end.Ending);
        Assert.Equal((8, 0), (end.Progress.Done, end.Progress.Failed));
        await fixture.AssertCompleteAsync(sweep, 8);
        Assert.Equal(before, await fixture.RowsAsync(measured));

        // Each has its pair, of rounds that the exact kernel ran once more, and what was is kept.
        Assert.Equal(4, await fixture.ScalarAsync<long>($"SELECT count(speedup_over_exact) FROM experiments.trial WHERE sweep_id = {sweep} AND kernel = 'slow'"));
        Assert.Equal(4, await fixture.ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial_attempt WHERE sweep_id = {sweep} AND status = 'failed' AND reason LIKE '%on purpose%'"));
    }

    [Fact]
    public async Task A_sweep_that_is_extended_while_it_runs_goes_on_into_what_was_added()
    {
        SiloFixture.Slow slow = new(TimeSpan.FromMilliseconds(20));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        string yaml = Slow.Replace("kernels: [", "kernels: [{kernel: exact, precision: float64}, ", StringComparison.Ordinal);
        long sweep = await fixture.CreateSweepAsync(yaml, shardTrials: 1);
        await using LocalSilo silo = await fixture.SiloAsync();
        Task<SweepEnd> running = silo.RunAsync(sweep, None, None);
        await UntilAsync(() => slow.Calls > 3);
        Catalog catalog = BuiltInCatalog.Create(fixture.Workbench);
        SweepRow row = (await fixture.Store.FindSweepAsync(sweep, None))!;
        string text = yaml.Replace("n: 8,", "n: [6, 8],", StringComparison.Ordinal).Replace("repeats: 12", "repeats: 14", StringComparison.Ordinal)
            .Replace("{kernel: slow,", "{kernel: reference, precision: float64}, {kernel: slow,", StringComparison.Ordinal);
        SweepSpec longer = SweepFile.Parse(text, "longer.yaml", ".", catalog);
        SweepExtension extension = SweepExtension.Of(
            SweepSpec.FromJson(row.Specification), longer, catalog, new CostModel { ShardTrials = 3 }, row.Shards, row.Trials, None);
        Assert.True(await fixture.Store.ExtendSweepAsync(
            sweep, new ExtendedSweep(row.SpecificationHash, longer.ToJson(), longer.Hash, text, extension.Instances, extension.Shards), None));
        SweepEnd end = await running;
        Assert.Equal((SweepEnding.Done, 2 * 14 * 3, 0), (end.Ending, end.Progress.Done, end.Progress.Failed));
        Assert.Equal(2 * 14 * 3, silo.Snapshot()!.Total);
        await fixture.AssertCompleteAsync(sweep, 2 * 14 * 3);
        Assert.Equal(2 * 14 * 3, await fixture.ScalarAsync<long>($"SELECT count(DISTINCT trial_key) FROM experiments.trial WHERE sweep_id = {sweep}"));

        // Another sweep of the longer file has the same trials with the same bits; only the numbers differ.
        long whole = await fixture.CreateSweepAsync(text);
        Assert.Equal(SweepEnding.Done, (await silo.RunAsync(whole, None, None)).Ending);
        Assert.Equal(0, await fixture.ScalarAsync<long>(
            $"SELECT count(*) FROM (SELECT trial_key, digest FROM experiments.trial WHERE sweep_id = {sweep} EXCEPT SELECT trial_key, digest FROM experiments.trial WHERE sweep_id = {whole}) d"));

        // Every trial that was added has its pair, also where the exact one was there before.
        Assert.Equal(0, await fixture.ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial WHERE sweep_id = {sweep} AND kernel <> 'exact' AND speedup_over_exact IS NULL"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Of_two_sweeps_on_one_silo_the_later_of_higher_priority_is_done_first(bool raisedWhileItRuns)
    {
        SiloFixture.Slow slow = new(TimeSpan.FromMilliseconds(40));
        await using SiloFixture fixture = await SiloFixture.CreateAsync(slow);
        long first = await fixture.CreateSweepAsync(Slow, shardTrials: 1);
        long second = await fixture.CreateSweepAsync(Slow, shardTrials: 1, priority: raisedWhileItRuns ? 0 : 1);
        await using LocalSilo silo = await fixture.SiloAsync(OnlyTold);
        Task<SweepEnd> one = silo.RunAsync(first, None, None);
        await UntilAsync(() => slow.Calls > 0);
        Task<SweepEnd> other = silo.RunAsync(second, None, None);
        if (raisedWhileItRuns)
        {
            while ((await fixture.Store.ProgressAsync(second, None)).Done == 0)
            {
                await Task.Delay(5, TestContext.Current.CancellationToken);
            }

            Assert.True(await fixture.Store.SetPriorityAsync(second, 1, None));
        }

        long before = (await fixture.Store.ProgressAsync(first, None)).Done;
        Assert.Same(other, await Task.WhenAny(one, other).WaitAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken));

        // As equals they would end within a shard or two of each other. From then on the first had what it held already, and what it was spared.
        // The store tells what came before what: by the time that a sweep's end is heard of here, the other has gone on alone.
        Assert.InRange(
            await fixture.ScalarAsync<long>($"""
                SELECT count(*) FROM experiments.shard
                WHERE sweep_id = {first} AND committed_at < (SELECT max(committed_at) FROM experiments.shard WHERE sweep_id = {second})
                """),
            1, Math.Min(9, before + 6));
        foreach ((long sweep, Task<SweepEnd> running) in ((long, Task<SweepEnd>)[])[(first, one), (second, other)])
        {
            SweepEnd end = await running.WaitAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken);
            Assert.Equal((SweepEnding.Done, 12), (end.Ending, end.Progress.Done));
            Assert.Equal(0, await fixture.ScalarAsync<long>($"SELECT count(*) FROM experiments.shard WHERE sweep_id = {sweep} AND epoch <> 1"));
        }
    }

    /// <summary>Cancels the sweep in the store, whereupon the silo ends its run of it.</summary>
    private static async Task CancelledAsync(SiloFixture fixture, long sweep, Task<SweepEnd> running)
    {
        Assert.True(await fixture.Store.SetSweepStateAsync(sweep, SweepState.Cancelled, None));
        Assert.Equal(SweepEnding.Cancelled, (await running.WaitAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken)).Ending);
    }

    private static async Task UntilAsync(Func<bool> condition)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromMinutes(1), "it did not come to pass within a minute");
            await Task.Delay(5);
        }
    }

    /// <summary>Tells which processors its thread may use.</summary>
    private sealed class Looking : IGradientKernel
    {
        public string OfProcess { get; } = Allowed($"/proc/{Environment.ProcessId}/status");

        public ConcurrentBag<string> Pinned { get; } = [];

        public ConcurrentBag<string> Free { get; } = [];

        public string Name => "looking";

        public string Summary => "Looks around.";

        public IReadOnlyList<Axis> Axes => [];

        public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) => new(1, 1, null);

        public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            // A warm-up call is no sample, and is made wherever the lane happens to be.
            if (settings.Flag("pin", false) && context.Statistics)
            {
                Pinned.Add(Allowed("/proc/thread-self/status"));
            }
            else if (!settings.Flag("pin", false))
            {
                Free.Add(Allowed("/proc/thread-self/status"));
            }

            BuiltIn.Kernel("exact").Compute(problem, settings, output, context with { Threads = 1 });
        }

        private static string Allowed(string file) => File.ReadLines(file)
            .First(l => l.StartsWith("Cpus_allowed_list:", StringComparison.Ordinal)).Split(':')[1].Trim();
    }
}
