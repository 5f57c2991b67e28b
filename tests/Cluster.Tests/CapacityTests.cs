using Experiments.Cluster.Tests.Driving;
using Experiments.Testing;

namespace Experiments.Cluster.Tests;

/// <summary>Silos of different sizes, as processes.</summary>
public sealed class CapacityTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    [Fact]
    public async Task Trials_go_where_they_fit_and_are_skipped_where_no_silo_is_large_enough()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        await using TestCluster cluster = await TestCluster.StartAsync(0);
        cluster.Environment["DOTNET_GCHeapHardLimit"] = "0x10000000";
        Child small = await cluster.AddSiloAsync("--name", "small");
        cluster.Environment.Remove("DOTNET_GCHeapHardLimit");
        Child large = await cluster.AddSiloAsync("--name", "large");

        // Some 300 MiB each: the small one may count on 192. Whoever asks first leases one, which either may.
        long sweep = await cluster.SubmitAsync(Sweep);
        await cluster.UntilWholeAsync(sweep, 2 * Repeats, Patience);
        Assert.Equal(Repeats, await cluster.ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial t JOIN experiments.node k ON k.id = t.node_id WHERE sweep_id = {sweep} AND n > 1000 AND k.name = 'large'"));

        large.Signal("TERM");
        Assert.Equal(0, await large.EndAsync(Patience));
        long again = await cluster.SubmitAsync(Sweep);
        await cluster.UntilAsync($"SELECT state = 'done' FROM experiments.sweep WHERE id = {again}", Patience);
        Assert.Equal(Repeats, await cluster.ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial WHERE sweep_id = {again} AND status = 'skipped' AND n > 1000 AND reason LIKE 'needs % MiB, limit 192 MiB'"));
        Assert.Equal(Repeats, await cluster.ScalarAsync<long>($"SELECT count(*) FROM experiments.trial WHERE sweep_id = {again} AND status = 'done'"));
        Assert.True(small.IsRunning);
    }

    private const int Repeats = 4;

    private static string Sweep => $$"""
        name: sizes
        seed: 4
        instances: {family: uniform, n: [256, 600000], d: 8, bound: 1, repeats: {{Repeats}}}
        kernels: [{kernel: low-rank, degree: 1, precision: float32}]
        measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none}
        """;
}
