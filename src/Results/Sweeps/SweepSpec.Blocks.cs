using Experiments.Results.Sweeps.Expressions;
using Experiments.Results.Sweeps.Reading;

namespace Experiments.Results.Sweeps;

public sealed partial class SweepSpec
{
    /// <summary>The name faults give the sweep when they are found only as it is counted.</summary>
    internal string DisplayName { get; init; } = "sweep";

    internal SearchSpec Search { get; init; } = SearchSpec.Grid;

    internal IReadOnlyList<InstanceBlock> Instances { get; init; } = [];

    internal IReadOnlyList<KernelBlock> Kernels { get; init; } = [];
}

internal enum SearchMethod
{
    Grid,
    Random,
    Sobol,
}

internal sealed record SearchSpec(SearchMethod Method, long Samples, Place Place)
{
    public static readonly SearchSpec Grid = new(SearchMethod.Grid, 0, default);
}

/// <summary>What an axis may hold, frozen with the sweep.</summary>
/// <param name="Parameter">A name of the file's own, not an axis of the family: part of the row, not of the identity.</param>
/// <param name="Word">The one word that may stand for a number, or null; among numbers it is NaN.</param>
internal sealed record AxisType(
    string Name, AxisKind Kind, double Minimum, double Maximum, bool Parameter, string? Word = null)
{
    public ValueKind ValueKind => Kind switch
    {
        AxisKind.Choice => ValueKind.Word,
        AxisKind.Flag => ValueKind.Flag,
        _ => ValueKind.Number,
    };

    /// <summary>Null, or why the number is none for this axis.</summary>
    public string? Refuse(double value)
    {
        if (!double.IsFinite(value))
        {
            return $"{Name} would be {Say(value)}; a finite number is needed.";
        }

        if (Kind == AxisKind.Integer && !double.IsInteger(value))
        {
            return $"{Name} is {Say(value)} and needs a whole number.";
        }

        if (value >= Minimum && value <= Maximum)
        {
            return null;
        }

        string needed = Minimum == double.Epsilon ? "a number above 0"
            : double.IsNegativeInfinity(Minimum) ? $"at most {Say(Maximum)}"
            : double.IsPositiveInfinity(Maximum) || Maximum >= int.MaxValue ? $"at least {Say(Minimum)}"
            : $"{Say(Minimum)} to {Say(Maximum)}";
        return Maximum == int.MaxValue && value > Maximum
            ? $"{Name} is {Say(value)} and may be at most {int.MaxValue}."
            : $"{Name} is {Say(value)} and needs {needed}.";
    }

    public object Box(double value) => Kind switch
    {
        AxisKind.Integer or AxisKind.Real when Word is not null && double.IsNaN(value) => Word,
        AxisKind.Integer => (long)value,
        AxisKind.Flag => value != 0,
        _ => value,
    };

    public static string Say(double value) =>
        double.IsNaN(value) ? "not a number"
        : double.IsInfinity(value) ? (value > 0 ? "infinite" : "minus infinite")
        : value.ToString("R", System.Globalization.CultureInfo.InvariantCulture);
}

internal sealed record AxisSpec(AxisType Type, AxisValues Values, Place Place);

/// <summary>An axis computed from others.</summary>
internal sealed record DerivedSpec(AxisType Type, Expression Expression, Place Place);

internal sealed record WhereSpec(Expression Expression, Place Place);

/// <summary>Axes that advance together; most have one.</summary>
internal sealed record DimensionSpec(IReadOnlyList<AxisSpec> Axes)
{
    public long Count => Axes[0].Values.Count;
}

/// <summary>An axis that means something only under certain words of another.</summary>
internal sealed record AppliesSpec(string On, IReadOnlyList<string> Words);

/// <summary>A product of instance axes of one family.</summary>
/// <param name="Constants">Axes the file does not name, with their defaults.</param>
internal sealed record InstanceBlock(
    string Family,
    IReadOnlyList<DimensionSpec> Dimensions,
    IReadOnlyList<DerivedSpec> Derived,
    IReadOnlyDictionary<string, object> Constants,
    IReadOnlyDictionary<string, AppliesSpec> Applies,
    IReadOnlyList<WhereSpec> Where,
    long Repeats,
    FilesSpec? Files,
    Place Place);

/// <summary>Inputs from files: where they lie, which part of each is which matrix, what they held when the sweep was frozen.</summary>
/// <param name="Folder">Where those that an axis names begin, unless their paths say otherwise.</param>
/// <param name="Matrices">Of the family <c>files</c>; none where axes name the files.</param>
/// <param name="Contents">By the name that the sweep file has for them.</param>
internal sealed record FilesSpec(
    string Folder, IReadOnlyList<SliceSpec> Matrices, IReadOnlyDictionary<string, FileContent> Contents);

/// <param name="Matrix">a1, a2, a3, e, x or y.</param>
/// <param name="File">Name without <c>.npy</c>, or <c>identity</c>.</param>
/// <param name="Bounds">First row, end row, first column, end column; null where left out. Null for the whole file.</param>
internal sealed record SliceSpec(string Matrix, string File, IReadOnlyList<Expression?>? Bounds, Place Place)
{
    public bool IsIdentity => File == "identity";
}

/// <param name="Rows">Of a matrix; 0 of any other file, as are its columns.</param>
/// <param name="Hash">First 128 bits of the SHA-256 of the file, as hex.</param>
internal sealed record FileContent(long Rows, long Columns, string Hash)
{
    /// <summary>The file as it was just read; null of a frozen sweep, where <see cref="Hash"/> names it.</summary>
    public CarriedFile? Source { get; init; }
}

/// <summary>A product of kernel axes, over one kernel or several.</summary>
internal sealed record KernelBlock(
    IReadOnlyList<KernelEntry> Kernels,
    IReadOnlyList<DimensionSpec> Dimensions,
    IReadOnlyList<DerivedSpec> Derived,
    IReadOnlyList<WhereSpec> Where,
    Place Place);

/// <param name="Own">The block's axes that this kernel has; the others are left out of its trials.</param>
/// <param name="Defaults">The kernel's axes that the block does not name.</param>
internal sealed record KernelEntry(
    string Name,
    IReadOnlySet<string> Own,
    IReadOnlyDictionary<string, object> Defaults,
    IReadOnlyDictionary<string, AppliesSpec> Applies);
