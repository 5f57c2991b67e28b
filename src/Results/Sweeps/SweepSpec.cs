namespace Experiments.Results.Sweeps;

/// <summary>A sweep as it will run: validated, frozen, canonical. Made from a file by <c>SweepFile</c>, kept as
/// JSON in the store, read back by silos with <c>FromJson</c>.</summary>
public sealed partial class SweepSpec
{
    public required string Name { get; init; }

    public string? Question { get; init; }

    public required long Seed { get; init; }

    public required Measure Measure { get; init; }

    public required Limits Limits { get; init; }

    /// <summary>The plug-ins that it was made with, each with the kernels and families that it uses of them: only silos that have the
    /// very same run it.</summary>
    public IReadOnlyList<PlugInIdentity> PlugIns { get; init; } = [];

    /// <summary>The files that it is over, each content once, as they were found when its file was read; none of a sweep that comes from the store.</summary>
    public IReadOnlyList<CarriedFile> Files =>
        [.. Instances.SelectMany(b => b.Files?.Contents.Values ?? []).Select(c => c.Source).OfType<CarriedFile>().DistinctBy(f => f.Sha256)];

    /// <summary>Every kernel and family that it names.</summary>
    public IEnumerable<string> Names =>
        Kernels.SelectMany(b => b.Kernels).Select(k => k.Name).Concat(Instances.Select(b => b.Family)).Distinct();
}
