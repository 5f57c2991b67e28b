namespace Experiments.Results.Sweeps;

/// <summary>One instance of a sweep with its trials.</summary>
/// <param name="Index">Where it stands in the unfiltered product of the instance axes: its number for good.</param>
/// <param name="Trials">Distinct kernel configurations, in the file's order; never empty.</param>
public sealed record InstancePlan(long Index, InstanceSpec Instance, IReadOnlyList<TrialSpec> Trials);

/// <summary>A run of whole instances that is leased, run and committed together.</summary>
/// <param name="Number">0-based within the sweep.</param>
/// <param name="FirstInstance">First index into the unfiltered product, inclusive.</param>
/// <param name="EndInstance">Last index, exclusive.</param>
/// <param name="FirstTrial">Number of the first trial; trials are numbered from 0 through the sweep in expansion order.</param>
/// <param name="Trials">How many trials the run holds.</param>
/// <param name="PredictedSeconds">By the cost model.</param>
public sealed record ShardPlan(
    int Number, long FirstInstance, long EndInstance, long FirstTrial, int Trials, double PredictedSeconds)
{
    /// <summary>Of an extension: which of its instances' trials it holds, by their place among all of them, ascending, since the others were there
    /// before; null for all.</summary>
    public IReadOnlyList<int>? Only { get; init; }
}
