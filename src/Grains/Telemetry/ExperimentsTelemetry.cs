using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace Experiments.Grains.Telemetry;

/// <summary>The sources of this system's spans and metrics, by the names that OpenTelemetry subscribes to.</summary>
public static class ExperimentsTelemetry
{
    public const string SourceName = "Experiments";

    public const string MeterName = "Experiments";

    /// <summary>The source of Orleans' own grain-call spans; without it no trace crosses a grain call.</summary>
    public const string OrleansSourceName = "Microsoft.Orleans.Application";

    public static readonly ActivitySource Source = new(SourceName);

    public static readonly Meter Meter = new(MeterName);

    public static readonly Counter<long> Trials =
        Meter.CreateCounter<long>("experiments.trials", "{trial}", "Trials computed here, by status.");

    public static readonly Histogram<double> TrialDuration =
        Meter.CreateHistogram<double>("experiments.trial.duration", "s", "Median seconds of one call of a trial's kernel.");

    public static readonly Histogram<double> ShardDuration =
        Meter.CreateHistogram<double>("experiments.shard.duration", "s", "Seconds a shard was on its lane.");

    public static readonly Counter<long> LeasesLost =
        Meter.CreateCounter<long>("experiments.leases.lost", "{lease}", "Leases that another process took over.");

    public static readonly Counter<long> ReferenceHits =
        Meter.CreateCounter<long>("experiments.reference.hits", "{reference}", "References found in the store.");
}
