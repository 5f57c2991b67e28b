using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>What a shard's runner needs to know of its sweep.</summary>
/// <param name="At">The instance at an index of the unfiltered product, or null where the sweep has none there. Safe for
/// several threads at once.</param>
public sealed record SweepPlan(long SweepId, Measure Measure, Limits Limits, Func<long, InstancePlan?> At)
{
    /// <summary>Expands the frozen specification that the store holds.</summary>
    /// <exception cref="ArgumentException">It needs a kernel, a family or a plug-in that is not here; the message says which.</exception>
    public static SweepPlan Of(SweepRow row, Catalog catalog)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(catalog);
        SweepSpec spec = SweepSpec.FromJson(row.Specification);
        if (catalog.Refusal(spec) is string refusal)
        {
            throw new ArgumentException(refusal);
        }

        return new SweepPlan(row.Id, spec.Measure, spec.Limits, new SweepExpansion(spec, catalog).At);
    }
}
