namespace Experiments.Results.Sweeps;

/// <summary>What can be swept here: the kernels and families a process knows, with their axes. Sweep files are checked
/// against it. This room knows no kernel; whoever does fills it in.</summary>
public sealed record Catalog(IReadOnlyList<FamilyDefinition> Families, IReadOnlyList<KernelDefinition> Kernels)
{
    /// <summary>The assemblies that those of the kernels and families come from which are not built in.</summary>
    public IReadOnlyList<PlugInIdentity> PlugIns { get; init; } = [];

    /// <summary>What each of the other silos offers that are alive now; asked only when it is to be told.</summary>
    public Func<IReadOnlyList<IReadOnlyList<PlugInIdentity>>> Others { get; init; } = static () => [];

    /// <summary>How many silos, this one among them, there are, and how many of them can run what is needed of a plug-in.</summary>
    public (int Able, int All) Count(PlugInIdentity needed)
    {
        IReadOnlyList<IReadOnlyList<PlugInIdentity>> others = Others();
        return (others.Append(PlugIns).Count(silo => silo.Any(p => p.Offers(needed))), others.Count + 1);
    }

    /// <summary>Null, or why a sweep cannot run here: a plug-in that it was made with is not here, or not the same file.</summary>
    public string? Refusal(SweepSpec spec)
    {
        ArgumentNullException.ThrowIfNull(spec);
        if (spec.PlugIns.FirstOrDefault(needed => !PlugIns.Any(p => p.Offers(needed))) is not PlugInIdentity lacking)
        {
            return spec.Names.FirstOrDefault(name => Families.All(f => f.Name != name) && Kernels.All(k => k.Name != name)) is string unknown
                ? $"The sweep uses '{unknown}', which is not known here. {NobodyHas(unknown)}" : null;
        }

        (int able, int all) = Count(lacking);
        PlugInIdentity? other = PlugIns.FirstOrDefault(p => p.Name == lacking.Name || p.Names.Intersect(lacking.Names).Any());
        return $"{able} of {all} silos can run {string.Join(", ", lacking.Names)}, of {lacking}; this one "
            + (other is null ? "lacks it" : $"has {other}") + ". Name the folder of that very file with --plugins.";
    }

    /// <summary>What to say of a kernel or family that is not known here.</summary>
    internal string NobodyHas(string name)
    {
        IReadOnlyList<IReadOnlyList<PlugInIdentity>> others = Others();
        int able = others.Count(silo => silo.Any(p => p.Names.Contains(name)));
        return $"{able} of {others.Count + 1} silos can run {name}" + (able == 0 ? "" : ", and this one cannot")
            + "; where it is of a plug-in, name the plug-in's folder with --plugins.";
    }
}

/// <param name="Axes">The family's own, beyond n, d, bound and repeats.</param>
/// <param name="NeedsBound">Whether a sweep must name <c>bound</c>.</param>
public sealed record FamilyDefinition(
    string Name, string Summary, IReadOnlyList<AxisDefinition> Axes, bool NeedsBound)
{
    /// <summary>Null, or what says why an instance is impossible, a sentence, and null of one that is possible or cannot be judged here.</summary>
    public Func<InstanceSpec, string?>? Refuse { get; init; }
}

/// <param name="Axes">The kernel's own and every kernel's, beyond precision and threads.</param>
/// <param name="Predict">What one call costs; throws <see cref="ArgumentException"/> with a sentence for a person when the
/// settings are impossible.</param>
public sealed record KernelDefinition(
    string Name, string Summary, IReadOnlyList<AxisDefinition> Axes, Func<InstanceSpec, TrialSpec, Prediction> Predict)
{
    /// <summary>Whether what it predicts depends on how large the logits may be; of a kernel with an axis that takes a word beside numbers, as <c>degree</c>
    /// takes <c>auto</c>, where it is given that word: a degree that it chooses by its tolerance grows with them.</summary>
    public bool PredictsByBound { get; init; }
}

/// <param name="Flops">Floating-point operations of one call.</param>
/// <param name="StateBytes">Bytes one call allocates beyond inputs and output.</param>
/// <param name="Rank">k, or null for a kernel without a rank. In expressions it is <c>rank</c>.</param>
public readonly record struct Prediction(double Flops, double StateBytes, long? Rank);

public enum AxisKind
{
    Integer,
    Real,
    Choice,
    Flag,
}

/// <summary>An axis as sweep files know it: see <c>Experiments.Kernels.Axis</c>, which it mirrors across the wall.</summary>
/// <param name="Default">long, double, string or bool; null when leaving the axis out means something of its own.</param>
/// <param name="AppliesTo">Null, or another axis and the words of it under which this one means anything. Where it does not
/// apply it is dropped from the trial, so that a product over it makes no trial twice.</param>
/// <param name="Word">The one word that may stand for a number, such as auto; null where there is none.</param>
public sealed record AxisDefinition(
    string Name,
    AxisKind Kind,
    string Summary,
    object? Default,
    double Minimum,
    double Maximum,
    IReadOnlyList<string> Choices,
    (string Axis, IReadOnlyList<string> Words)? AppliesTo,
    bool Required,
    string? Word = null)
{
    /// <summary>Null, or another axis of the family that this one may not exceed, its default excepted.</summary>
    public string? NoMoreThan { get; init; }

    /// <summary>Whether its words name files, which then go with the sweep; of a family's axis of free words.</summary>
    public bool IsFile { get; init; }
}
