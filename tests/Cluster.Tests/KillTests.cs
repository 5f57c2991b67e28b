using System.Net;
using System.Net.Sockets;
using Experiments.Cluster.Tests.Driving;
using Experiments.Results.Store;
using Experiments.Silo;
using Experiments.Testing;
using Microsoft.Extensions.DependencyInjection;

namespace Experiments.Cluster.Tests;

/// <summary>Real silos as processes, a real Redis, a real Postgres, and real signals: whatever dies, every planned trial is stored, once, with the
/// bits of a run that nothing disturbed.</summary>
public sealed class KillTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    [Fact]
    public async Task Silos_share_a_sweep_and_one_that_is_killed_loses_nothing()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(3);
        long calm = await cluster.SubmitAsync(Sweep);
        await cluster.UntilWholeAsync(calm, Trials, Patience);
        await cluster.UntilAsync($"SELECT EXISTS (SELECT FROM experiments.summary WHERE sweep_id = {calm})", TimeSpan.FromSeconds(30));
        Assert.Equal(3, await cluster.ScalarAsync<long>($"SELECT count(DISTINCT node_id) FROM experiments.trial WHERE sweep_id = {calm}"));

        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilStoredAsync(sweep, Trials / 5, Patience);
        cluster.Silos[0].Signal("KILL");
        await cluster.UntilWholeAsync(sweep, Trials, Patience, calm);
        Assert.False(cluster.Silos[0].IsRunning);
    }

    [Fact]
    public async Task A_whole_cluster_that_was_killed_goes_on_when_silos_come_back_and_nobody_tells_them()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(2);
        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilStoredAsync(sweep, Trials / 5, Patience);
        foreach (Child silo in cluster.Silos)
        {
            silo.Signal("KILL");
        }

        await Task.WhenAll(cluster.AddSiloAsync(), cluster.AddSiloAsync());
        await cluster.UntilWholeAsync(sweep, Trials, Patience);
    }

    [Fact]
    public async Task A_silo_that_is_told_to_stop_gives_back_what_it_has_not_run_and_leaves()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(2);
        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilStoredAsync(sweep, Trials / 5, Patience);
        cluster.Silos[0].Signal("TERM");
        Assert.Equal(0, await cluster.Silos[0].EndAsync(TimeSpan.FromSeconds(30)));
        Assert.Contains("Draining", cluster.Silos[0].Said, StringComparison.Ordinal);
        await cluster.UntilWholeAsync(sweep, Trials, Patience);
        Assert.DoesNotContain("Exception", cluster.Silos[0].Said, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_silo_that_was_paused_until_the_others_took_over_wakes_up_to_a_fence()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(2);
        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilStoredAsync(sweep, Trials / 5, Patience);
        cluster.Silos[0].Signal("STOP");
        await Task.Delay(TimeSpan.FromSeconds(12), TestContext.Current.CancellationToken);
        cluster.Silos[0].Signal("CONT");
        await cluster.UntilWholeAsync(sweep, Trials, Patience);
    }

    [Fact]
    public async Task A_silo_that_was_declared_dead_starts_anew_in_its_own_process()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");

        // Of three, for it takes two to declare one dead.
        await using TestCluster cluster = await TestCluster.StartAsync(3);
        Child hung = cluster.Silos[0];
        await cluster.UntilAsync("SELECT count(*) = 3 FROM experiments.live_node", Patience);
        int before = await cluster.ScalarAsync<int>($"SELECT max(id) FROM experiments.node WHERE process_id = {hung.Id}");
        hung.Signal("STOP");
        await Task.Delay(TimeSpan.FromSeconds(12), TestContext.Current.CancellationToken);
        hung.Signal("CONT");
        await hung.SaysAsync("starts anew in this process", Patience);
        await cluster.UntilAsync(
            $"SELECT count(*) = 1 AND bool_and(n.id > {before}) FROM experiments.node n JOIN experiments.live_node l ON l.node_id = n.id WHERE n.process_id = {hung.Id}",
            Patience);
        Assert.True(hung.IsRunning, hung.Said);

        // It is a silo as any other: it has a share of the next sweep, and leaves when it is told to.
        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilWholeAsync(sweep, Trials, Patience);
        Assert.True(await cluster.ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial t JOIN experiments.node n ON n.id = t.node_id WHERE n.process_id = {hung.Id} AND n.id > {before}") > 0);
        hung.Signal("TERM");
        Assert.Equal(0, await hung.EndAsync(Patience));
        Assert.Equal(2, hung.Said.Split("Silo of cluster").Length - 1);
    }

    [Fact]
    public async Task Two_sweeps_at_once_are_worked_at_in_turns()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        // Both are there before any silo is, so that neither has a start however long it took to submit.
        await using TestCluster cluster = await TestCluster.StartAsync(0);
        long first = await cluster.SubmitAsync(Sweep);
        long second = await cluster.SubmitAsync(Sweep);
        await cluster.AddSiloAsync();
        await cluster.UntilWholeAsync(first, Trials, Patience);

        // The second did not wait for the first.
        long stored = await cluster.StoredAsync(second);
        Assert.True(stored >= Trials / 2, $"{stored} of the second's {Trials} trials were stored when the first was done.");
        await cluster.UntilWholeAsync(second, Trials, Patience, first);
    }

    [Fact]
    public async Task A_cancelled_sweep_is_put_down_by_every_silo_in_the_midst_of_a_kernel()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(2);

        // One call of one trial takes minutes.
        long sweep = await cluster.SubmitAsync("""
            name: long
            seed: 12
            instances: {family: uniform, n: 262144, d: 16, bound: 1, repeats: 4}
            kernels: [{kernel: exact, precision: float64}]
            measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none}
            """);
        await cluster.UntilAsync($"SELECT count(DISTINCT node_id) = 2 FROM experiments.shard WHERE sweep_id = {sweep} AND state = 'leased'", Patience);
        await Task.Delay(TimeSpan.FromSeconds(3), TestContext.Current.CancellationToken);
        (int code, string said) = await cluster.RunAsync("cancel", $"{sweep}");
        Assert.True(code == 0 && said.Contains("is cancelled; 0 trials stored", StringComparison.Ordinal), said);
        await cluster.UntilAsync($"SELECT NOT EXISTS (SELECT FROM experiments.shard WHERE sweep_id = {sweep} AND state <> 'ready')", Patience);
        TestContext.Current.TestOutputHelper?.WriteLine(
            $"given back {await cluster.ScalarAsync<double>($"SELECT extract(epoch FROM clock_timestamp() - finished_at) FROM experiments.sweep WHERE id = {sweep}"):F3} s after");
        Assert.Equal("cancelled", await cluster.ScalarAsync<string>($"SELECT state FROM experiments.sweep WHERE id = {sweep}"));
        await Task.WhenAll(cluster.Silos.Select(s => s.SaysAsync($"Sweep {sweep} Cancelled", Patience)));

        // The silos have their lanes back, and hear of what comes next.
        long next = await cluster.SubmitAsync(Sweep.Replace("repeats: 60", "repeats: 5", StringComparison.Ordinal));
        await cluster.UntilWholeAsync(next, Trials / 12, Patience);
        Assert.Equal(0, await cluster.StoredAsync(sweep));
    }

    [Fact]
    public async Task A_silo_whose_collector_never_answers_says_so_when_it_leaves()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(0);

        // The system accepts for it; nobody reads.
        using TcpListener silent = new(IPAddress.Loopback, 0);
        silent.Start(backlog: 100);
        cluster.Environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = $"http://127.0.0.1:{((IPEndPoint)silent.LocalEndpoint).Port}";
        Child silo = await cluster.AddSiloAsync();
        silo.Signal("TERM");
        Assert.Equal(0, await silo.EndAsync(TimeSpan.FromSeconds(20)));
        Assert.Contains("Not all traces and metrics reached the collector", silo.Said, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Bad_settings_get_one_line()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(0);
        await RefusedAsync(cluster, 1, "--bind is 'here'", "silo", "--bind", "here");
        await RefusedAsync(cluster, 1, "silo would listen on 10.0.0.5 without TLS", "silo", "--bind", "10.0.0.5");
        await RefusedAsync(cluster, 1, "go together", "silo", "--tls-key", "node.key");
        await RefusedAsync(cluster, 1, "--health is '8080'", "silo", "--health", "8080");
        await RefusedAsync(cluster, 4, "The Redis at 127.0.0.1:1 does not answer", "silo", "--redis", "127.0.0.1:1,connectTimeout=500", "--port", "0");
        await RefusedAsync(cluster, 1, "cannot be read", "silo", "--redis", "127.0.0.1:1,nosuchoption=1", "--port", "0");
        Child silo = await cluster.AddSiloAsync();
        int port = int.Parse(silo.Said.Split("on 127.0.0.1:")[1].Split('.')[0], System.Globalization.CultureInfo.InvariantCulture);
        await RefusedAsync(cluster, 1, $"Port {port} of 127.0.0.1 is taken", "silo", "--port", $"{port}");
        cluster.Environment.Remove("EXPERIMENTS_REDIS");
        await RefusedAsync(cluster, 1, "Set EXPERIMENTS_REDIS or give --redis", "silo");
    }

    [Fact]
    public async Task Health_is_ready_once_the_store_has_answered_and_metrics_can_be_scraped()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(0);
        Child silo = await cluster.AddSiloAsync("--health", "127.0.0.1:0");
        string at = silo.Said.Split("health on ")[1].Split('\n')[0].TrimEnd('.', '\r');
        using HttpClient http = new() { BaseAddress = new Uri($"http://{at}") };
        Assert.Contains("\"live\"", await http.GetStringAsync(new Uri("/health/live", UriKind.Relative), TestContext.Current.CancellationToken), StringComparison.Ordinal);
        for (int i = 0; ; i++)
        {
            using HttpResponseMessage ready = await http.GetAsync(new Uri("/health/ready", UriKind.Relative), TestContext.Current.CancellationToken);
            if (ready.IsSuccessStatusCode)
            {
                break;
            }

            Assert.True(i < 200, await ready.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }

        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilStoredAsync(sweep, 10, Patience);
        string metrics = await http.GetStringAsync(new Uri("/metrics", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Contains("experiments_trials", metrics, StringComparison.Ordinal);
        Assert.Contains("service_name=\"experiments\"", metrics, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Silos_of_two_builds_are_two_clusters_that_share_a_sweep_until_the_older_is_drained()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(0);
        long sweep = await cluster.SubmitAsync(Sweep);
        await using ResultStore ofOlder = await ResultStore.OpenAsync(cluster.Store, TestContext.Current.CancellationToken);
        await using ResultStore ofNewer = await ResultStore.OpenAsync(cluster.Store, TestContext.Current.CancellationToken);
        await using ClusterSilo older = await StartAsync("0.1.0+older", ofOlder), newer = await StartAsync("0.1.0+newer", ofNewer);
        foreach (ClusterSilo silo in (ClusterSilo[])[older, newer])
        {
            IManagementGrain management = silo.Services.GetRequiredService<IGrainFactory>().GetGrain<IManagementGrain>(0);
            Assert.Equal(silo.Endpoint, Assert.Single(await management.GetHosts(onlyActive: true, TestContext.Current.CancellationToken)).Key.Endpoint);
        }

        await cluster.UntilAsync($"SELECT count(DISTINCT node_id) = 2 FROM experiments.trial WHERE sweep_id = {sweep}", Patience);
        await older.StopAsync(TestContext.Current.CancellationToken);
        await cluster.UntilWholeAsync(sweep, Trials, Patience);

        Task<ClusterSilo> StartAsync(string build, ResultStore store) => ClusterSilo.StartAsync(
            new ClusterSiloOptions(cluster.Environment["EXPERIMENTS_REDIS"]!, IPAddress.Loopback, 0) { Build = build, Name = build, Lanes = 1 },
            Task.FromResult(store), TestContext.Current.CancellationToken);
    }

    private static async Task RefusedAsync(TestCluster cluster, int expected, string words, params string[] args)
    {
        (int code, string said) = await cluster.RunAsync(args);
        Assert.True(code == expected, $"exit {code}: {said}");
        Assert.Contains(words, said, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", said, StringComparison.Ordinal);
        Assert.InRange(said.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length, 1, 2);
    }

    // Some 40 shards of a second or so on one lane each.
    private const int Trials = 240;

    private const string Sweep = """
        name: killed
        seed: 12
        instances: {family: uniform, n: [1024, 2048], d: 8, bound: 1, repeats: 60}
        kernels:
          - {kernel: exact, precision: float32}
          - {kernel: low-rank, degree: 3, precision: float32}
        measure: {rounds: 2, min_time: 10ms, max_noise: 0, sharing: true}
        """;
}
