namespace Experiments.Results.Sweeps;

/// <summary>One kernel configuration, to be run on an instance.</summary>
/// <param name="Kernel">exact, low-rank, reference, …</param>
/// <param name="Precision">float32 or float64.</param>
/// <param name="Threads">How many threads one call may use.</param>
/// <param name="Settings">The kernel's own axes (degree, basis, form, …), only those that apply; long, double, string or bool.</param>
public sealed record TrialSpec(
    string Kernel, string Precision, int Threads, IReadOnlyDictionary<string, object> Settings)
{
    /// <summary>128 bits of a hash of the instance's and this configuration's canonical text.</summary>
    public Guid KeyOn(InstanceSpec instance) => Identity.KeyOf(instance, this);

    /// <summary>For a person: <c>low-rank float32 degree=4 basis=taylor form=paper</c>.</summary>
    public override string ToString() => Identity.Describe(this);
}
