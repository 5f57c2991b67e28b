using System.Diagnostics;

namespace Experiments.Benchmarks.Measuring;

/// <summary>Wall time, or the processor time of the process: the latter stands a busy machine, for one thread at a time.</summary>
internal sealed class Clock(bool processor)
{
    public static readonly Clock Wall = new(processor: false);

    public bool Processor => processor;

    /// <summary>Seconds since some moment, to subtract from each other.</summary>
    public double Seconds() => processor
        ? Environment.CpuUsage.TotalTime.TotalSeconds
        : Stopwatch.GetTimestamp() / (double)Stopwatch.Frequency;
}
