using Experiments.Results.Store;

namespace Experiments.Grains;

/// <summary>How a sweep's run in this process ended.</summary>
public enum SweepEnding
{
    /// <summary>Every trial is stored.</summary>
    Done,

    /// <summary>The sweep was cancelled, here or elsewhere.</summary>
    Cancelled,

    /// <summary>This process was told to stop; what it had not finished was given back, and <c>resume</c> goes on.</summary>
    Interrupted,
}

/// <param name="Progress">As the store had it at the end.</param>
/// <param name="SpansDropped">Spans that were not stored, because the queue was full or the store refused them.</param>
/// <param name="OtlpFault">Null, or why what should have gone by OTLP did not all arrive.</param>
public sealed record SweepEnd(SweepEnding Ending, SweepProgress Progress, long SpansDropped, string? OtlpFault = null);

/// <summary>One moment of a running sweep, for a live view. Making one costs microseconds and touches no database.</summary>
/// <param name="Total">Trials of the sweep.</param>
/// <param name="Done">Trials done, whoever ran them, those that are computed but not yet committed included.</param>
/// <param name="ReferenceHits">References found in the store instead of computed, by this process.</param>
/// <param name="TrialsPerSecond">Over the last few seconds; 0 before there is anything to divide.</param>
/// <param name="Elapsed">Since this process took the sweep up.</param>
/// <param name="Remaining">Time left at the present rate, or null while there is none.</param>
/// <param name="LeasesLost">Leases that were fenced: another process took them over.</param>
public sealed record RunSnapshot(
    long Total,
    long Done,
    long Failed,
    long Skipped,
    long ReferenceHits,
    double TrialsPerSecond,
    TimeSpan Elapsed,
    TimeSpan? Remaining,
    IReadOnlyList<LaneSnapshot> Lanes,
    long LeasesLost,
    long SpansDropped);

/// <summary>What one compute thread is doing.</summary>
/// <param name="Instance">Such as <c>uniform n=256 d=8 bound=2 repeat=0</c>; null when the lane is idle.</param>
/// <param name="Kernel">Such as <c>low-rank float32 degree=4</c>, or <c>reference</c>; null between kernels.</param>
/// <param name="Running">How long it has been at that.</param>
public sealed record LaneSnapshot(int Lane, string? Instance, string? Kernel, TimeSpan Running);
