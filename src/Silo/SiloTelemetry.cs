using System.Diagnostics;
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

        ResourceBuilder resource = ResourceBuilder.CreateEmpty()
            .AddService("experiments", serviceInstanceId: $"{Environment.MachineName}/{Environment.ProcessId}")
            .AddEnvironmentVariableDetector();
        Spans = new ShardSpanProcessor(new PostgresSpanExporter(stores));
        TracerProviderBuilder traces = Sdk.CreateTracerProviderBuilder()
            .SetResourceBuilder(resource)
            .AddSource(ExperimentsTelemetry.SourceName, ExperimentsTelemetry.OrleansSourceName)
            .SetSampler(new ParentBasedSampler(new OwnRootsSampler(share)))
            .AddProcessor(Spans);
        if (otlp)
        {
            _faults = new OtlpFaults();
            traces.AddOtlpExporter();
            ExperimentsTelemetry.Meter.CreateObservableCounter(
                "experiments.spans.dropped", () => Spans.Dropped, "{span}", "Spans that were not stored.");
            _metrics = Sdk.CreateMeterProviderBuilder()
                .SetResourceBuilder(resource)
                .AddMeter(ExperimentsTelemetry.MeterName, "Microsoft.Orleans")
                .AddOtlpExporter()
                .Build();
        }

        _traces = traces.Build();
    }

    public ShardSpanProcessor Spans { get; }

    /// <summary>Null, or why what should have gone by OTLP did not all arrive.</summary>
    public string? OtlpFault => _refusal ?? _faults?.Last ?? (_silent ? "it does not answer" : null);

    /// <summary>Stores what is still queued; what cannot be in that time counts as dropped.</summary>
    public void Flush(TimeSpan within)
    {
        _traces.ForceFlush((int)within.TotalMilliseconds);
        _silent = _metrics?.ForceFlush((int)within.TotalMilliseconds) == false;
    }

    public void Dispose()
    {
        _traces.Dispose();
        _metrics?.Dispose();
        _faults?.Dispose();
    }

    /// <summary>Records a trace that one of our own spans begins, and none that a bare grain call does: those are leases and
    /// polls, many a second and of no interest. Of ours, the share that was asked for.</summary>
    private sealed class OwnRootsSampler(double share) : Sampler
    {
        private readonly TraceIdRatioBasedSampler _share = new(share);

        public override SamplingResult ShouldSample(in SamplingParameters samplingParameters) =>
            samplingParameters.Kind == ActivityKind.Internal ? _share.ShouldSample(samplingParameters) : new(SamplingDecision.Drop);
    }
}
