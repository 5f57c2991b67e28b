using System.Diagnostics;
using System.Net;
using Experiments.Cluster.Tests.Driving;
using Experiments.Testing;

namespace Experiments.Cluster.Tests;

/// <summary>What silos do when it is not they that die: they keep what they have computed, wait, and go on, without anybody's help.</summary>
public sealed class SurroundingsTests
{
    private const int Trials = 360;
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    /// <summary>The store's own retries last some ten seconds. After that, what is computed waits in memory, and its lease stays its holder's.</summary>
    [Fact]
    public async Task A_Postgres_that_crashed_and_comes_back_after_a_while_costs_that_while_and_no_result()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(2, await TestPostgres.StartOwnAsync());
        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilStoredAsync(sweep, Trials / 5, Patience);
        await cluster.Postgres.CrashAsync();
        await Task.Delay(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        await cluster.RestartPostgresAsync();
        await cluster.UntilWholeAsync(sweep, Trials, Patience);
        AssertNothingGivenUp(cluster);

        // A grant whose answer the crash swallowed belongs to nobody who knows of it, and each silo may have been waiting for one.
        Assert.InRange(await cluster.ScalarAsync<long>($"SELECT count(*) FROM experiments.shard WHERE sweep_id = {sweep} AND epoch > 1"), 0, 4);
    }

    /// <summary>Redis is membership: without it silos go on with those whom they know.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_Redis_that_was_killed_and_comes_back_with_its_data_or_without_stops_nobody(bool forgets)
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(2);
        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilStoredAsync(sweep, Trials / 5, Patience);
        await cluster.RestartRedisAsync(TimeSpan.FromSeconds(5), forgets);
        if (forgets)
        {
            await Task.WhenAny(cluster.Silos.Select(s => s.SaysAsync("is written back", Patience)));
        }

        // Who comes now joins, and who dies now is done without.
        Child late = await cluster.AddSiloAsync();
        await cluster.UntilAsync(
            $"SELECT EXISTS (SELECT FROM experiments.shard s JOIN experiments.node n ON n.id = s.node_id WHERE s.sweep_id = {sweep} AND n.process_id = {late.Id})"
            + $" OR (SELECT state = 'done' FROM experiments.sweep WHERE id = {sweep})", Patience);
        cluster.Silos[0].Signal("KILL");
        await cluster.UntilWholeAsync(sweep, Trials, Patience);
        long next = await cluster.SubmitAsync(Sweep);
        await cluster.UntilWholeAsync(next, Trials, Patience, sweep);
        AssertNothingGivenUp(cluster);
    }

    [Fact]
    public async Task A_disk_that_was_full_is_waited_for()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using SmallDisk disk = await SmallDisk.MountAsync(256);
        Assert.SkipWhen(disk.Unavailable is not null, disk.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(2, await TestPostgres.StartOwnAsync(Path.Combine(disk.Folder, "postgres")));
        long calm = await cluster.SubmitAsync(Sweep);
        await cluster.UntilWholeAsync(calm, Trials, Patience);

        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilStoredAsync(sweep, Trials / 5, Patience);
        disk.Fill();
        await cluster.UntilQuietAsync(sweep, TimeSpan.FromSeconds(8), Patience);
        disk.MakeRoom();
        await cluster.RestartPostgresAsync();
        Assert.InRange(await cluster.TryStoredAsync(sweep), Trials / 5, Trials - 1);
        await cluster.UntilWholeAsync(sweep, Trials, Patience, calm);
        AssertNothingGivenUp(cluster);
        await cluster.Postgres.Server.StopAsync(TestContext.Current.CancellationToken);
    }

    /// <summary>Nothing is refused and nobody is told: what is sent is lost.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_silo_that_leads_a_sweep_and_is_cut_off_is_done_without_until_it_is_back(bool fromTheStore)
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestNetwork network = await TestNetwork.MakeAsync(3);
        Assert.SkipWhen(network.Unavailable is not null, network.Unavailable ?? "");
        (TestCluster started, Child[] silos) = await StartAsync(network);
        await using TestCluster cluster = started;
        long sweep = await cluster.SubmitAsync(Sweep.Replace("repeats: 90", "repeats: 180", StringComparison.Ordinal));
        await cluster.UntilStoredAsync(sweep, Trials / 5, Patience);
        int member = 1 + Array.FindIndex(silos, s => s.Said.Contains($"Sweep {sweep} is led from here", StringComparison.Ordinal));
        Child victim = silos[member - 1];
        string theirs = $"node_id IN (SELECT id FROM experiments.node WHERE process_id = {victim.Id})";
        IPAddress[] lost = fromTheStore ? [IPAddress.Parse(network.Host)] : [.. Enumerable.Range(1, 3).Where(i => i != member).Select(network.AddressOf)];
        Stopwatch watch = Stopwatch.StartNew();
        await Task.WhenAll(lost.Select(a => network.CutAsync(member, a)));
        if (fromTheStore)
        {
            // Neither its lock nor its leases outlast it, though nobody closed a connection.
            await cluster.UntilAsync(
                $"SELECT NOT EXISTS (SELECT FROM experiments.live_node WHERE {theirs}) "
                + $"AND NOT EXISTS (SELECT FROM experiments.shard WHERE state = 'leased' AND {theirs})", TimeSpan.FromSeconds(25));
            TestContext.Current.TestOutputHelper?.WriteLine($"its shards elsewhere after {watch.Elapsed}");
        }
        else
        {
            await Task.Delay(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        }

        await Task.WhenAll(lost.Select(a => network.MendAsync(member, a)));
        await cluster.UntilWholeAsync(sweep, 2 * Trials, Patience);
        TestContext.Current.TestOutputHelper?.WriteLine($"whole after {watch.Elapsed}; the silo {(victim.IsRunning ? "runs" : $"ended with {victim.ExitCode}")}");
        AssertNothingGivenUp(cluster);
    }

    /// <summary>Of what every silo sends and hears, to the store, to Redis and to the others, less comes through than it has to say.</summary>
    [Fact]
    public async Task A_slow_network_makes_a_sweep_slow_and_loses_nothing()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestNetwork network = await TestNetwork.MakeAsync(3);
        Assert.SkipWhen(network.Unavailable is not null, network.Unavailable ?? "");
        (TestCluster started, _) = await StartAsync(network);
        await using TestCluster cluster = started;
        long calm = await cluster.SubmitAsync(Sweep);
        Stopwatch watch = Stopwatch.StartNew();
        await cluster.UntilWholeAsync(calm, Trials, Patience);
        TimeSpan quick = watch.Elapsed;
        foreach (int member in Enumerable.Range(1, 3))
        {
            string? refusal = await network.SlowAsync(member, "400kbit");
            Assert.SkipWhen(refusal is not null, $"this kernel slows no network down: {refusal}");
        }

        watch.Restart();
        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilWholeAsync(sweep, Trials, Patience, calm);
        TestContext.Current.TestOutputHelper?.WriteLine($"{quick.TotalSeconds:F1} s and {watch.Elapsed.TotalSeconds:F1} s; silos that ended: {cluster.Silos.Count(s => !s.IsRunning)}");
        AssertNothingGivenUp(cluster);
    }

    /// <summary>Three silos, each in a namespace of its own, with certificates; the servers are on the bridge.</summary>
    private static async Task<(TestCluster Cluster, Child[] Silos)> StartAsync(TestNetwork network)
    {
        TestPostgres postgres = await TestPostgres.StartOwnAsync(settings: new Dictionary<string, string> { ["listen_addresses"] = network.Host });
        TestCluster cluster = await TestCluster.StartAsync(0, postgres, network.Host);
        string pki = Path.Combine(cluster.Folder, "pki");
        try
        {
            (int code, string said) = await cluster.RunAsync(
                "certificates", pki, "--names", string.Join(',', Enumerable.Range(1, 3).Select(network.AddressOf)), "--force");
            Assert.True(code == 0, said);
            Dictionary<string, string?> there = new()
            {
                ["EXPERIMENTS_POSTGRES"] = await postgres.LetInAsync(network.Range, network.Host, cluster.Store),
            };
            Child[] silos = await Task.WhenAll(Enumerable.Range(1, 3).Select(i => cluster.AddSiloAsync(
                network, i, there, "--tls-certificate", $"{pki}/node.crt", "--tls-key", $"{pki}/node.key", "--tls-authority", $"{pki}/ca.crt")));
            return (cluster, silos);
        }
        catch
        {
            await cluster.DisposeAsync();
            throw;
        }
    }

    /// <summary>Only the server's clock decides anything.</summary>
    [Fact]
    public async Task A_silo_whose_clock_jumps_by_a_day_and_back_is_like_any_other()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        string? library = Directory.Exists("/usr/lib")
            ? Directory.EnumerateFiles("/usr/lib", "libfaketimeMT.so.1", new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 2, IgnoreInaccessible = true }).FirstOrDefault()
            : null;
        Assert.SkipWhen(library is null, "no libfaketime is installed");
        string clock = Path.GetTempFileName();

        // It begins a day ahead: what Orleans schedules by the clock, it schedules no earlier than it began.
        await File.WriteAllTextAsync(clock, "+1d", TestContext.Current.CancellationToken);
        await using TestCluster cluster = await TestCluster.StartAsync(1);
        Child silo = await cluster.StartSiloAsync(new Dictionary<string, string?>
        {
            ["LD_PRELOAD"] = library,
            ["FAKETIME_TIMESTAMP_FILE"] = clock,
            ["FAKETIME_NO_CACHE"] = "1",
            ["FAKETIME_DONT_FAKE_MONOTONIC"] = "1",
        });
        await silo.SaysAsync("Silo of cluster", TimeSpan.FromSeconds(60));
        long sweep = await cluster.SubmitAsync(Sweep.Replace("repeats: 90", "repeats: 180", StringComparison.Ordinal));
        await cluster.UntilStoredAsync(sweep, Trials / 10, Patience);
        foreach ((string jump, string seen) in new[] { ("+1d", "> now() + interval '12 hours'"), ("-1d", "< now() - interval '12 hours'") })
        {
            await File.WriteAllTextAsync(clock, jump, TestContext.Current.CancellationToken);

            // When a trial began is told by the silo that ran it.
            await cluster.UntilAsync($"SELECT EXISTS (SELECT FROM experiments.trial WHERE sweep_id = {sweep} AND started_at {seen})", Patience);
        }

        await File.WriteAllTextAsync(clock, "+0", TestContext.Current.CancellationToken);
        await cluster.UntilWholeAsync(sweep, 2 * Trials, Patience);
        Assert.All(cluster.Silos, s => Assert.True(s.IsRunning, s.Said));
        AssertNothingGivenUp(cluster);
        File.Delete(clock);
    }

    /// <summary>Every session that ran went on to its end: none threw away what it had computed.</summary>
    private static void AssertNothingGivenUp(TestCluster cluster) =>
        Assert.All(cluster.Silos, silo => Assert.DoesNotContain("ended here by a fault", silo.Said, StringComparison.Ordinal));

    private const string Sweep = """
        name: surroundings
        seed: 12
        instances: {family: uniform, n: [1024, 2048], d: 8, bound: 1, repeats: 90}
        kernels:
          - {kernel: exact, precision: float32}
          - {kernel: low-rank, degree: 3, precision: float32}
        measure: {rounds: 2, min_time: 10ms, max_noise: 0, sharing: true}
        """;
}
