namespace Experiments.Results.Outcomes;

/// <summary>An instance's exact float64 answer, found again by the instance's key.</summary>
/// <param name="InstanceKey">See <see cref="Sweeps.InstanceSpec.Key"/>.</param>
/// <param name="Gradient">(d, d), row-major.</param>
/// <param name="Forward">(n, d), row-major.</param>
/// <param name="Seconds">What it cost to compute.</param>
public sealed record ReferenceRecord(
    Guid InstanceKey, double[] Gradient, double[] Forward, double Loss, double MaxLogit, double RmsLogit, double Seconds);
