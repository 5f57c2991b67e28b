namespace Experiments.Results.Sweeps;

/// <summary>What can be swept here: the kernels and families a process knows, with their axes. Sweep files are checked
/// against it. This room knows no kernel; whoever does fills it in.</summary>
public sealed record Catalog(IReadOnlyList<FamilyDefinition> Families, IReadOnlyList<KernelDefinition> Kernels)
{
    /// <summary>How many silos this is what they can run.</summary>
    public int Silos { get; init; } = 1;

    /// <summary>What to say of a kernel or family that none of them has.</summary>
    internal string NobodyHas(string name) =>
        $"0 of {Silos} silos can run {name}; where it is of a plug-in, name the plug-in's folder with --plugins.";
}

/// <param name="Axes">The family's own, beyond n, d, bound and repeats.</param>
/// <param name="NeedsBound">Whether a sweep must name <c>bound</c>.</param>
public sealed record FamilyDefinition(
    string Name, string Summary, IReadOnlyList<AxisDefinition> Axes, bool NeedsBound);

/// <param name="Axes">The kernel's own, beyond precision and threads.</param>
/// <param name="Predict">What one call costs; throws <see cref="ArgumentException"/> with a sentence for a person when the
/// settings are impossible.</param>
public sealed record KernelDefinition(
    string Name, string Summary, IReadOnlyList<AxisDefinition> Axes, Func<InstanceSpec, TrialSpec, Prediction> Predict);

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
    string? Word = null);
