using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>What a shard's runner needs to know of its sweep.</summary>
/// <param name="At">The instance at an index of the unfiltered product, or null where the sweep has none there. Safe for
/// several threads at once.</param>
public sealed record SweepPlan(long SweepId, Measure Measure, Limits Limits, Func<long, InstancePlan?> At)
{
    /// <summary>The plans of before it was extended, oldest first: each shard is run by that of its part.</summary>
    public IReadOnlyList<SweepPlan> Former { get; init; } = [];

    /// <summary>The frozen specification that it expands, for a process that has to expand it anew.</summary>
    public string Specification { get; private init; } = "";

    /// <summary>The plan of a shard's part; null when the sweep has been extended since this was read.</summary>
    public SweepPlan? OfPart(int part) => part < Former.Count ? Former[part] : part == Former.Count ? this : null;

    /// <summary>Expands the frozen specifications that the store holds.</summary>
    /// <exception cref="ArgumentException">It needs a kernel, a family or a plug-in that is not here; the message says which.</exception>
    public static SweepPlan Of(SweepRow row, Catalog catalog)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(catalog);
        SweepPlan[] former = [.. row.Former.Select(text => Of(row.Id, text, catalog))];
        return Of(row.Id, row.Specification, catalog) with { Former = former };
    }

    /// <summary>Expands one frozen specification.</summary>
    /// <exception cref="ArgumentException">As above.</exception>
    public static SweepPlan Of(long sweep, string specification, Catalog catalog)
    {
        ArgumentNullException.ThrowIfNull(catalog);
        SweepSpec spec = SweepSpec.FromJson(specification);
        return catalog.Refusal(spec) is string refusal
            ? throw new ArgumentException(refusal)
            : new SweepPlan(sweep, spec.Measure, spec.Limits, new SweepExpansion(spec, WithoutRefusals(catalog)).At) { Specification = specification };
    }

    /// <summary>What families refuse was told where the sweep was made. Here it would be asked of every instance, its files read for that alone; and one
    /// that has been saved over since is the fault of its trials, which say so, and not the end of the sweep.</summary>
    private static Catalog WithoutRefusals(Catalog catalog) => catalog with { Families = [.. catalog.Families.Select(f => f with { Refuse = null })] };
}
