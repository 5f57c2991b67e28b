using Experiments.Cluster.Tests.Driving;

namespace Experiments.Cluster.Tests;

/// <summary>Trials that kill silos, and silos that are killed beside innocent trials.</summary>
public sealed class PoisonTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    private static readonly string Configuration =
        Path.GetFileName(Path.GetDirectoryName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar))!);

    private static readonly string PlugIns = Path.GetFullPath(Path.Combine(
        AppContext.BaseDirectory, "..", "..", "..", "..", "Plugins.Poison", "bin", Configuration, "net10.0"));

    [Fact]
    public async Task A_sweep_that_kills_silos_ends_with_its_poison_given_up_and_all_else_stored()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await StartAsync();
        long undisturbed = await cluster.SubmitAsync(Sweep("not"));
        await cluster.UntilWholeAsync(undisturbed, 3 * Instances, Patience);
        long sweep = await cluster.SubmitAsync(Sweep("abort"));
        int fallen = await ReplaceTheDeadUntilDoneAsync(cluster, sweep);

        // Two for the first shard that is isolated; from then on all are, but for what another silo was at.
        Assert.InRange(fallen, 2, 6);
        Assert.Equal(3 * Instances, await cluster.StoredAsync(sweep));
        Assert.Equal(3 * Instances, await cluster.ScalarAsync<long>($"SELECT count(DISTINCT trial) FROM experiments.trial WHERE sweep_id = {sweep}"));
        Assert.Equal(Instances, await cluster.ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial WHERE sweep_id = {sweep} AND status = 'failed' AND kernel = 'poison' "
            + "AND reason LIKE 'killed its process (signal 6 (SIGABRT)) 2 times of 2, where nothing else ran%poisoned on purpose'"));
        Assert.Equal(2 * Instances, await cluster.ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial a JOIN experiments.trial b ON b.sweep_id = {undisturbed} AND b.trial_key = a.trial_key "
            + $"WHERE a.sweep_id = {sweep} AND a.status = 'done' AND a.digest = b.digest AND a.speedup_over_exact > 0"));
        Assert.Equal(fallen, await cluster.ScalarAsync<long>(
            $"SELECT count(DISTINCT dead) FROM experiments.shard, unnest(dead_nodes) dead WHERE sweep_id = {sweep}"));
    }

    [Fact]
    public async Task An_innocent_shard_that_an_operator_has_killed_two_silos_of_comes_out_right()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(3);
        const string Long = """
            name: innocent
            seed: 3
            instances: {family: uniform, n: 3000, d: 8, bound: 1, repeats: 1}
            kernels:
              - {kernel: exact, precision: float64}
              - {kernel: low-rank, degree: 3, precision: float64}
            measure: {rounds: 40, min_time: 0, max_noise: 0}
            """;
        long undisturbed = await cluster.SubmitAsync(Long);
        await cluster.UntilWholeAsync(undisturbed, 2, Patience);
        long sweep = await cluster.SubmitAsync(Long);
        for (int deaths = 0; deaths < 2; deaths++)
        {
            await cluster.UntilAsync(
                "SELECT coalesce(state = 'leased' AND begun_epoch = epoch, false) AND cardinality(dead_nodes) = "
                + $"{deaths} FROM experiments.shard WHERE sweep_id = {sweep}",
                Patience);
            int process = await cluster.ScalarAsync<int>(
                $"SELECT k.process_id FROM experiments.shard s JOIN experiments.node k ON k.id = s.node_id WHERE s.sweep_id = {sweep}");
            cluster.Silos.Single(s => s.Id == process).Signal("KILL");
        }

        await cluster.UntilWholeAsync(sweep, 2, Patience, undisturbed);
        Assert.Equal(2, await cluster.ScalarAsync<int>($"SELECT cardinality(dead_nodes) FROM experiments.shard WHERE sweep_id = {sweep}"));
        Assert.False(await cluster.ScalarAsync<bool>($"SELECT isolated FROM experiments.sweep WHERE id = {sweep}"));
        Assert.Equal(1, await cluster.ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial WHERE sweep_id = {sweep} AND kernel = 'low-rank' AND speedup_over_exact > 0 AND seconds_median > 0"));
    }

    private static async Task<TestCluster> StartAsync()
    {
        TestCluster cluster = await TestCluster.StartAsync(0);
        cluster.Environment["EXPERIMENTS_PLUGINS"] = PlugIns;
        await Task.WhenAll(cluster.AddSiloAsync(), cluster.AddSiloAsync());
        return cluster;
    }

    /// <summary>As a service manager does; how many it was.</summary>
    private static async Task<int> ReplaceTheDeadUntilDoneAsync(TestCluster cluster, long sweep)
    {
        System.Diagnostics.Stopwatch watch = System.Diagnostics.Stopwatch.StartNew();
        while (await cluster.ScalarAsync<string>($"SELECT state FROM experiments.sweep WHERE id = {sweep}") != "done")
        {
            Assert.True(watch.Elapsed < Patience, $"Not done after {watch.Elapsed}. The silos said:\n{cluster.Logs()}");
            if (cluster.Silos.Count(s => s.IsRunning) < 2)
            {
                await cluster.AddSiloAsync();
            }

            await Task.Delay(100);
        }

        return cluster.Silos.Count(s => !s.IsRunning);
    }

    private const int Instances = 8;

    private static string Sweep(string how) => $$"""
        name: poisoned
        seed: 12
        instances: {family: uniform, n: 1024, d: 8, bound: 1, repeats: {{Instances}}}
        kernels:
          - {kernel: exact, precision: float32}
          - {kernel: poison, how: {{how}}, precision: float32}
          - {kernel: low-rank, degree: 3, precision: float32}
        measure: {rounds: 2, min_time: 200ms, max_noise: 0, sharing: true}
        limits: {retries: 1}
        """;
}
