using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>What a shard's runner needs to know of its sweep.</summary>
/// <param name="At">The instance at an index of the unfiltered product, or null where the sweep has none there. Safe for
/// several threads at once.</param>
public sealed record SweepPlan(long SweepId, Measure Measure, Limits Limits, Func<long, InstancePlan?> At)
{
    /// <summary>Expands the frozen specification that the store holds.</summary>
    public static SweepPlan Of(SweepRow row, Catalog catalog)
    {
        ArgumentNullException.ThrowIfNull(row);
        SweepSpec spec = SweepSpec.FromJson(row.Specification);
        return new SweepPlan(row.Id, spec.Measure, spec.Limits, new SweepExpansion(spec, catalog).At);
    }
}
