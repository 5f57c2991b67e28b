using System.Diagnostics;
using System.Globalization;
using Experiments.Grains;
using Experiments.Grains.Telemetry;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace Experiments.Silo;

/// <summary>Subscribes to the process's spans and metrics: spans go to the store, both go by OTLP when
/// <c>OTEL_EXPORTER_OTLP_ENDPOINT</c> is set.</summary>
public sealed class SiloTelemetry : IDisposable
{
    private const string OtlpEndpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";

    // A collector on the same network answers within milliseconds; the SDK's own ten seconds are spent several times over at the end of a process.
    private const int UsualPatienceMilliseconds = 3000;
    private const int LastWordMilliseconds = 200;

    // As long as the SDK itself gives a processor that is disposed.
    private const int StoreMilliseconds = 5000;

    private readonly int _patience = Patience();
    private readonly TracerProvider _traces;
    private readonly MeterProvider? _metrics;
    private readonly OtlpFaults? _faults;
    private readonly string? _refusal;
    private bool _silent;

    /// <param name="share">Of the traces, from 0 to 1: a shard is traced whole or not at all.</param>
    public SiloTelemetry(StoreHandle stores, double share = 1)
    {
        string? endpoint = Environment.GetEnvironmentVariable(OtlpEndpoint);
        bool otlp = !string.IsNullOrWhiteSpace(endpoint);
        if (otlp && !(Uri.TryCreate(endpoint, UriKind.Absolute, out Uri? address) && address.Scheme is "http" or "https"))
        {
            // The SDK would send to localhost instead, without a word.
            (otlp, _refusal) = (false, "an address such as http://localhost:4317 is needed");
        }

        ResourceBuilder resource = DescribeProcess(ResourceBuilder.CreateEmpty());
        Spans = new ShardSpanProcessor(new PostgresSpanExporter(stores));
        TracerProviderBuilder traces = Sdk.CreateTracerProviderBuilder()
            .SetResourceBuilder(resource)
            .AddSource(ExperimentsTelemetry.SourceName, ExperimentsTelemetry.OrleansSourceName)
            .SetSampler(new ParentBasedSampler(new OwnRootsSampler(share)))
            .AddProcessor(Spans);
        if (otlp)
        {
            _faults = new OtlpFaults();
            traces.AddOtlpExporter(o => o.TimeoutMilliseconds = _patience);
            ExperimentsTelemetry.Meter.CreateObservableCounter(
                "experiments.spans.dropped", () => Spans.Dropped, "{span}", "Spans that were not stored.");
            _metrics = Sdk.CreateMeterProviderBuilder()
                .SetResourceBuilder(resource)
                .AddMeter(ExperimentsTelemetry.MeterName, "Microsoft.Orleans")
                .AddOtlpExporter(o => o.TimeoutMilliseconds = _patience)
                .Build();
        }

        _traces = traces.Build();
    }

    public ShardSpanProcessor Spans { get; }

    /// <summary>What is told of this process wherever its spans and metrics go; <c>OTEL_SERVICE_NAME</c> and <c>OTEL_RESOURCE_ATTRIBUTES</c> say otherwise.</summary>
    public static ResourceBuilder DescribeProcess(ResourceBuilder resource) => resource
        .AddService("experiments", serviceInstanceId: $"{Environment.MachineName}/{Environment.ProcessId}")
        .AddEnvironmentVariableDetector();

    /// <summary>Whether a trace is recorded, where that share of them is.</summary>
    public static bool Records(ActivityTraceId trace, double share) =>
        new TraceIdRatioBasedSampler(share).ShouldSample(new SamplingParameters(default, trace, "", ActivityKind.Internal)).Decision
            == SamplingDecision.RecordAndSample;

    /// <summary>Null, or why what should have gone by OTLP did not all arrive.</summary>
    public string? OtlpFault => _refusal ?? _faults?.Last ?? (_silent ? "it does not answer" : null);

    /// <summary>Stores what is still queued; what cannot be in that time counts as dropped.</summary>
    /// <param name="within">For what goes to the store. A collector that takes connections and answers nothing costs its own patience at most.</param>
    public void Flush(TimeSpan within)
    {
        Spans.ForceFlush((int)within.TotalMilliseconds);
        if (_metrics is not null)
        {
            // The traces' answer is the store's as well; the metrics go to nobody but the collector.
            _silent = !SideBySide(() => _traces.ForceFlush(_patience), () => _metrics.ForceFlush(_patience))[1];
        }
    }

    public void Dispose()
    {
        if (_metrics is not null)
        {
            // Disposing would wait for five seconds in every provider and again in every exporter, unless they have been shut down before. Who did
            // not answer a moment ago is hardly waited for again.
            int patience = _silent ? LastWordMilliseconds : _patience;
            Spans.Shutdown(StoreMilliseconds);
            SideBySide(() => _traces.Shutdown(patience), () => _metrics.Shutdown(patience));
        }

        _traces.Dispose();
        _metrics?.Dispose();
        _faults?.Dispose();
    }

    /// <summary>How long each delivery to a collector may take: what the user says, or a few seconds.</summary>
    private static int Patience() =>
        int.TryParse(Environment.GetEnvironmentVariable("OTEL_EXPORTER_OTLP_TIMEOUT"), CultureInfo.InvariantCulture, out int given) && given > 0
            ? given : UsualPatienceMilliseconds;

    private static bool[] SideBySide(params Func<bool>[] waits) => Task.WhenAll(waits.Select(Task.Run)).GetAwaiter().GetResult();

    /// <summary>Records a trace that one of our own spans begins, and none that a bare grain call does: those are leases and
    /// polls, many a second and of no interest. Of ours, the share that was asked for.</summary>
    private sealed class OwnRootsSampler(double share) : Sampler
    {
        private readonly TraceIdRatioBasedSampler _share = new(share);

        public override SamplingResult ShouldSample(in SamplingParameters samplingParameters) =>
            samplingParameters.Kind == ActivityKind.Internal ? _share.ShouldSample(samplingParameters) : new(SamplingDecision.Drop);
    }
}
