using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Experiments.Grains.Telemetry;
using Experiments.Results.Store;
using Experiments.Silo;
using Experiments.Testing;

namespace Experiments.Grains.Tests;

public sealed class TelemetryTests
{
    private const string Sweep = """
        name: told
        seed: 5
        instances: {family: uniform, n: 32, d: 4, bound: 1, repeats: 4}
        kernels: [{kernel: [slow, exact], precision: float64}]
        measure: {rounds: 2, min_time: 0, max_noise: 0}
        """;

    [Fact]
    public async Task Spans_and_metrics_go_by_OTLP_when_an_endpoint_is_set()
    {
        using Collector collector = new();
        SweepEnd end = await RunAsync(collector.Address);
        Assert.Null(end.OtlpFault);
        Assert.Contains(collector.Posts, p => p.Path == "/v1/traces" && p.Body.Contains("kernel slow", StringComparison.Ordinal));
        Assert.Contains(collector.Posts, p => p.Path == "/v1/traces" && p.Body.Contains("IShardGrain/Start", StringComparison.Ordinal));
        Assert.Contains(collector.Posts, p => p.Path == "/v1/metrics" && p.Body.Contains("experiments.trial.duration", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_collector_that_nobody_runs_changes_nothing()
    {
        using TcpListener closed = new(IPAddress.Loopback, 0);
        closed.Start();
        string nobody = $"http://127.0.0.1:{((IPEndPoint)closed.LocalEndpoint).Port}";
        closed.Stop();
        SweepEnd end = await RunAsync(nobody);
        Assert.Equal(8, end.Progress.Done);
        Assert.Equal(0, end.SpansDropped);
        Assert.StartsWith("Connection refused", end.OtlpFault, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_collector_that_accepts_and_never_answers_is_told_of_and_costs_no_trial_and_no_span()
    {
        // The system accepts for it; nobody reads.
        using TcpListener silent = new(IPAddress.Loopback, 0);
        silent.Start(backlog: 100);
        SweepEnd end = await RunAsync($"http://127.0.0.1:{((IPEndPoint)silent.LocalEndpoint).Port}");
        Assert.Equal(8, end.Progress.Done);
        Assert.Equal(0, end.SpansDropped);
        Assert.NotNull(end.OtlpFault);
    }

    [Fact]
    public async Task An_endpoint_that_is_no_address_sends_nothing_to_anyone()
    {
        SweepEnd end = await RunAsync("collector");
        Assert.Equal(8, end.Progress.Done);
        Assert.Equal("an address such as http://localhost:4317 is needed", end.OtlpFault);
    }

    [Fact]
    public async Task A_span_that_is_on_its_way_while_the_end_is_awaited_is_not_called_lost()
    {
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore store = await ResultStore.OpenAsync(address, CancellationToken.None);
        TaskCompletionSource<ResultStore> late = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using ShardSpanProcessor processor = new(new PostgresSpanExporter(new StoreHandle(late.Task)));
        using Activity span = Recorded();
        processor.OnEnd(span);
        Task<bool> flush = Task.Run(() => processor.ForceFlush(20_000), CancellationToken.None);
        await Task.Delay(TimeSpan.FromSeconds(1), CancellationToken.None);
        Assert.False(flush.IsCompleted);
        late.SetResult(store);
        Assert.True(await flush);
        Assert.Equal(0, processor.Dropped);
        Assert.Single(await store.SpansAsync(SpanRecords.IdOf(span.TraceId), CancellationToken.None));
    }

    [Fact]
    public async Task Spans_that_find_the_queue_full_are_counted_and_the_others_stored()
    {
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore store = await ResultStore.OpenAsync(address, CancellationToken.None);
        TaskCompletionSource<ResultStore> late = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using ShardSpanProcessor processor = new(new PostgresSpanExporter(new StoreHandle(late.Task)));
        using Activity span = Recorded();
        for (int i = 0; i < ShardSpanProcessor.QueueSize + 100; i++)
        {
            processor.OnEnd(span);
        }

        late.SetResult(store);
        Assert.True(processor.ForceFlush(60_000));
        Assert.Equal(100, processor.Dropped);
        Assert.Equal(ShardSpanProcessor.QueueSize, (await store.SpansAsync(SpanRecords.IdOf(span.TraceId), CancellationToken.None)).Count);
    }

    [Fact]
    public async Task A_span_with_odd_text_is_stored_with_what_can_be_read_of_it()
    {
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore store = await ResultStore.OpenAsync(address, CancellationToken.None);
        using ShardSpanProcessor processor = new(new PostgresSpanExporter(new StoreHandle(Task.FromResult(store))));
        using Activity span = Recorded();
        span.DisplayName = "na\0me \ud800";
        span.SetTag("te\0xt", "a\0b\udc00c");
        span.SetTag("real", double.NaN);
        span.SetStatus(ActivityStatusCode.Error, "wr\0ong \ud800");
        processor.OnEnd(span);
        Assert.True(processor.ForceFlush(20_000));
        Assert.Equal(0, processor.Dropped);
        Assert.Single(await store.SpansAsync(SpanRecords.IdOf(span.TraceId), CancellationToken.None));
    }

    private static Activity Recorded()
    {
        Activity span = new Activity("span") { ActivityTraceFlags = ActivityTraceFlags.Recorded }.SetIdFormat(ActivityIdFormat.W3C).Start();
        span.Stop();
        return span;
    }

    private static async Task<SweepEnd> RunAsync(string endpoint)
    {
        await using SiloFixture fixture = await SiloFixture.CreateAsync(new SiloFixture.Slow(TimeSpan.FromMilliseconds(3)));
        long sweep = await fixture.CreateSweepAsync(Sweep, shardTrials: 2);
        LocalSilo silo;
        Environment.SetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        Environment.SetEnvironmentVariable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        try
        {
            silo = await fixture.SiloAsync();
        }
        finally
        {
            Environment.SetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT", null);
            Environment.SetEnvironmentVariable("OTEL_EXPORTER_OTLP_PROTOCOL", null);
        }

        await using (silo)
        {
            return await silo.RunAsync(sweep, CancellationToken.None, CancellationToken.None);
        }
    }

    /// <summary>Takes whatever is posted and says thank you.</summary>
    private sealed class Collector : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);

        public Collector()
        {
            _listener.Start();
            _ = AcceptAsync();
        }

        public string Address => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

        public ConcurrentQueue<(string Path, string Body)> Posts { get; } = [];

        public void Dispose() => _listener.Dispose();

        private async Task AcceptAsync()
        {
            try
            {
                while (true)
                {
                    _ = ServeAsync(await _listener.AcceptTcpClientAsync());
                }
            }
            catch (Exception end) when (end is ObjectDisposedException or SocketException)
            {
                // The test is over.
            }
        }

        private async Task ServeAsync(TcpClient accepted)
        {
            using TcpClient client = accepted;
            try
            {
                NetworkStream stream = client.GetStream();
                string head = "";
                byte[] one = new byte[1];
                while (!head.EndsWith("\r\n\r\n", StringComparison.Ordinal) && await stream.ReadAsync(one) == 1)
                {
                    head += (char)one[0];
                }

                string[] lines = head.Split("\r\n");
                string length = lines.First(l => l.StartsWith("Content-Length:", StringComparison.OrdinalIgnoreCase));
                byte[] body = new byte[int.Parse(length.AsSpan(length.IndexOf(':', StringComparison.Ordinal) + 1), null)];
                await stream.ReadExactlyAsync(body);
                Posts.Enqueue((lines[0].Split(' ')[1], Encoding.Latin1.GetString(body)));
                await stream.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"u8.ToArray());
            }
            catch (IOException)
            {
                // The exporter hung up.
            }
        }
    }
}
