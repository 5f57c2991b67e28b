namespace Experiments.Results.Outcomes;

/// <summary>An instance's exact float64 answer, found again by the instance's key.</summary>
/// <param name="InstanceKey">See <see cref="Sweeps.Measure.ReferenceKeyOf"/>.</param>
/// <param name="Gradient">(d, d), row-major; of a sample the rows of dQ, (rows, d).</param>
/// <param name="Forward">(n, d), row-major; of a sample (rows, d).</param>
/// <param name="Seconds">What it cost to compute.</param>
public sealed record ReferenceRecord(
    Guid InstanceKey, double[] Gradient, double[] Forward, double Loss, double MaxLogit, double RmsLogit, double Seconds)
{
    /// <summary>Of how many drawn rows it is, whose loss is the sum over them; null for all.</summary>
    public int? Rows { get; init; }
}
