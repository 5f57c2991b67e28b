using Experiments.Silo;

namespace Experiments.Grains.Tests;

/// <summary>Beside no other silo: a span is recorded when any listener of the process wants it.</summary>
[Collection(nameof(TraceShareTests))]
public sealed class TraceShareTests
{
    [Theory]
    [InlineData(0.0)]
    [InlineData(0.5)]
    public async Task A_shard_is_traced_whole_or_not_at_all_and_stored_either_way(double share)
    {
        const int Shards = 40;
        await using SiloFixture fixture = await SiloFixture.CreateAsync(new SiloFixture.Slow(TimeSpan.FromMilliseconds(2)));
        long sweep = await fixture.CreateSweepAsync(
            $$"""
            name: sampled
            seed: 5
            instances: {family: uniform, n: 16, d: 4, bound: 1, repeats: {{Shards}}}
            kernels: [{kernel: [slow, exact], precision: float64}]
            measure: {rounds: 1, min_time: 0, max_noise: 0, sharing: true}
            """,
            shardTrials: 2);
        await using (LocalSilo silo = await fixture.SiloAsync(traceShare: share))
        {
            Assert.Equal(2 * Shards, (await silo.RunAsync(sweep, CancellationToken.None, CancellationToken.None)).Progress.Done);
        }

        // One in 10¹² says otherwise by chance.
        long traced = await fixture.ScalarAsync<long>("SELECT count(*) FROM experiments.span WHERE name = 'shard'");
        Assert.InRange(traced, share == 0 ? 0 : 1, share == 0 ? 0 : Shards - 1);
        Assert.Equal(traced, await fixture.ScalarAsync<long>("SELECT count(*) FROM experiments.span WHERE name = 'kernel slow'"));
        Assert.Equal(0, await fixture.ScalarAsync<long>("""
            SELECT count(*) FROM experiments.span s
            WHERE NOT EXISTS (SELECT FROM experiments.span r WHERE r.trace_id = s.trace_id AND r.name = 'shard')
            """));
    }

    [CollectionDefinition(nameof(TraceShareTests), DisableParallelization = true)]
    public sealed class Alone;
}
