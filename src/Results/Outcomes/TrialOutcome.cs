using Experiments.Results.Sweeps;

namespace Experiments.Results.Outcomes;

public enum TrialStatus
{
    Done,
    Failed,
    Skipped,
}

/// <summary>What is stored of one trial: one row of the table <c>trial</c>. Nulls are what was not measured.</summary>
public sealed class TrialOutcome
{
    /// <summary>Number within the sweep, from 0.</summary>
    public required long Trial { get; init; }

    /// <summary>Index of the instance within the sweep: see <see cref="InstancePlan.Index"/>.</summary>
    public required long InstanceIndex { get; init; }

    public required InstanceSpec Instance { get; init; }

    public required TrialSpec Spec { get; init; }

    public TrialStatus Status { get; set; }

    /// <summary>Why it failed or was skipped: one sentence.</summary>
    public string? Reason { get; set; }

    /// <summary>How often it was tried; 1 when the first try served.</summary>
    public int Attempts { get; set; } = 1;

    /// <summary>Least, median and median absolute deviation of the seconds one call took, over the rounds.</summary>
    public double? SecondsMin { get; set; }

    public double? SecondsMedian { get; set; }

    public double? SecondsMad { get; set; }

    /// <summary>Seconds per call, a number a round, in the order of the rounds; rounds are paired across the instance's trials.</summary>
    public double[]? Samples { get; set; }

    /// <summary>Processor seconds per call: threads times median seconds.</summary>
    public double? CoreSeconds { get; set; }

    /// <summary>Floating-point operations of one call by the kernel's own model.</summary>
    public double? Flops { get; set; }

    /// <summary>Bytes one call allocates beyond inputs and output, by the kernel's own model.</summary>
    public double? StateBytes { get; set; }

    /// <summary>k, for kernels that have a rank.</summary>
    public long? Rank { get; set; }

    /// <summary>Largest |logit| and root mean square logit of the instance, uncentred.</summary>
    public double? MaxLogit { get; set; }

    public double? RmsLogit { get; set; }

    /// <summary>max(‖A1 X‖∞, ‖A2‖∞), computed from the inputs.</summary>
    public double? BoundMeasured { get; set; }

    public double? Loss { get; set; }

    /// <summary>‖dX − reference‖∞, and that over ‖reference‖∞.</summary>
    public double? GradientAbsoluteError { get; set; }

    public double? GradientRelativeError { get; set; }

    /// <summary>Of how many drawn rows the reference was, so that the errors are estimates; null where it was of all.</summary>
    public int? ReferenceRows { get; set; }

    /// <summary>The standard error of <see cref="GradientAbsoluteError"/>, in its units; null where that is no estimate.</summary>
    public double? GradientErrorStandardError { get; set; }

    /// <summary>The standard error of <see cref="LossRelativeError"/>, in its units; null where that is no estimate.</summary>
    public double? LossErrorStandardError { get; set; }

    /// <summary>|loss − reference| / |reference|.</summary>
    public double? LossRelativeError { get; set; }

    /// <summary>‖F − reference‖∞ / ‖reference‖∞ of the forward output.</summary>
    public double? ForwardRelativeError { get; set; }

    public double? MinRowSumOverN { get; set; }

    public long? NonPositiveRowSums { get; set; }

    /// <summary>R, the largest |logit| the polynomial was fitted for.</summary>
    public double? FittedRadius { get; set; }

    /// <summary>g, the degree of that polynomial, which the kernel may have chosen itself.</summary>
    public int? FittedDegree { get; set; }

    /// <summary>ε, the bound on the relative error of each exponential for |logits| ≤ R.</summary>
    public double? PredictedExpError { get; set; }

    /// <summary>n ‖A1‖∞ ‖A2‖∞ H (6C + 4H) ε, which the gradient's absolute error may not exceed (to first order).</summary>
    public double? TheoremBound { get; set; }

    /// <summary>The theorem's bound over the measured absolute error.</summary>
    public double? TheoremSlack { get; set; }

    /// <summary>Median over the rounds of exact's seconds over this trial's, both of the same round and precision.</summary>
    public double? SpeedupOverExact { get; set; }

    /// <summary>Median seconds by phase: projections Q = A1 X and h = A3 Y; moments of the keys; the pass over the rows;
    /// the last reduction to dX.</summary>
    public double? ProjectSeconds { get; set; }

    public double? MomentsSeconds { get; set; }

    public double? RowsSeconds { get; set; }

    public double? ReduceSeconds { get; set; }

    /// <summary>128-bit hash of the gradient's little-endian bytes: equal bits, equal digest.</summary>
    public Guid? Digest { get; set; }

    /// <summary>When the trial's first call began.</summary>
    public DateTimeOffset StartedAt { get; set; }

    /// <summary>The span of this trial, when it was long enough to have one.</summary>
    public ulong? SpanId { get; set; }
}
