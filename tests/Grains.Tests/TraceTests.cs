using System.Globalization;
using Experiments.Silo;

namespace Experiments.Grains.Tests;

public sealed class TraceTests
{
    [Fact]
    public async Task A_stored_trace_has_the_shard_grain_above_every_kernel_and_no_span_without_its_parent()
    {
        const string Origin = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        await using SiloFixture fixture = await SiloFixture.CreateAsync(new SiloFixture.Slow(TimeSpan.FromMilliseconds(3)));
        long sweep = await fixture.CreateSweepAsync(
            """
            name: traced
            seed: 5
            instances: {family: uniform, n: 32, d: 4, bound: 1, repeats: 4}
            kernels: [{kernel: [slow, exact], precision: float64}]
            measure: {rounds: 2, min_time: 0, max_noise: 0}
            """,
            shardTrials: 2,
            Origin);
        await using (LocalSilo silo = await fixture.SiloAsync())
        {
            await silo.RunAsync(sweep, CancellationToken.None, CancellationToken.None);
        }

        List<Span> spans = [.. (await fixture.RowsAsync(
            "SELECT trace_id, span_id, parent_id, name, kind, sweep_id, shard, trial, attributes::text FROM experiments.span"))
            .Select(r => new Span(
                (Guid)r[0]!, Convert.ToInt64(r[1], CultureInfo.InvariantCulture), Convert.ToInt64(r[2] is DBNull ? 0L : r[2], CultureInfo.InvariantCulture),
                (string)r[3]!, (string)r[4]!, r[5] as long?, r[6] as int?, r[7] as long?, r[8] as string))];
        List<Guid> shardTraces = [.. spans.Where(s => s.Name == "shard").Select(s => s.Trace)];
        Assert.Equal(4, shardTraces.Count);
        Assert.Equal(4, shardTraces.Distinct().Count());

        Dictionary<(Guid, long), Span> byId = spans.ToDictionary(s => (s.Trace, s.Id));
        Assert.All(spans, s => Assert.Contains(s.Trace, shardTraces));
        Assert.All(spans.Where(s => s.Name != "shard"), s => Assert.True(byId.ContainsKey((s.Trace, s.Parent)), $"{s.Name} has no parent"));
        Assert.All(spans.Where(s => s.Name == "shard"), s => Assert.Equal(0, s.Parent));
        Assert.All(spans, s => Assert.Equal(sweep, s.Sweep));

        List<Span> kernels = [.. spans.Where(s => s.Name.StartsWith("kernel ", StringComparison.Ordinal))];
        Assert.True(kernels.Count >= 4);
        Assert.All(kernels, k =>
        {
            Assert.NotNull(k.Trial);
            Assert.Contains(Ancestors(k, byId), a =>
                a.Name.EndsWith("IShardGrain/Start", StringComparison.Ordinal) && a.Kind == "server"
                && a.Attributes!.Contains("Microsoft.Orleans.Application", StringComparison.Ordinal));
        });
        Assert.Equal(4, spans.Count(s => s.Name == "lease"));
        Assert.Equal(4, spans.Count(s => s.Name == "commit"));
        Assert.Contains(spans, s => s.Name == "shard" && s.Attributes!.Contains("0af7651916cd43dd8448eb211c80319c", StringComparison.Ordinal));

        // Every stored trial says which trace explains it, and every slow one which span.
        Assert.Equal(0, await fixture.ScalarAsync<long>("""
            SELECT count(*) FROM experiments.trial t
            WHERE NOT EXISTS (SELECT 1 FROM experiments.span s WHERE s.trace_id = t.trace_id AND s.name = 'shard')
            """));
        Assert.Equal(4, await fixture.ScalarAsync<long>("""
            SELECT count(*) FROM experiments.trial t JOIN experiments.span s ON s.trace_id = t.trace_id AND s.span_id = t.span_id
            WHERE s.name = 'trial' AND t.kernel = 'slow'
            """));
    }

    private static IEnumerable<Span> Ancestors(Span span, Dictionary<(Guid, long), Span> byId)
    {
        while (byId.TryGetValue((span.Trace, span.Parent), out Span? parent))
        {
            yield return parent;
            span = parent;
        }
    }

    private sealed record Span(
        Guid Trace, long Id, long Parent, string Name, string Kind, long? Sweep, int? Shard, long? Trial, string? Attributes);
}
