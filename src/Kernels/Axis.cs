namespace Experiments.Kernels;

/// <summary>What an axis holds: a whole number, a real number, one of a few words, or yes and no.</summary>
public enum AxisKind
{
    Integer,
    Real,
    Choice,
    Flag,
}

/// <summary>One axis that a kernel or an instance family understands. Its name is the key in a sweep file.</summary>
/// <param name="Name">Lower case with underscores, as typed in a sweep file: <c>degree</c>.</param>
/// <param name="Kind">What its values are.</param>
/// <param name="Summary">One sentence for the help, with the unit.</param>
/// <param name="Default">The value where a sweep names none: long, double, string or bool; null where it must be named
/// or where leaving it out means something of its own (say "from the data").</param>
/// <param name="Minimum">Least value, inclusive, of a number.</param>
/// <param name="Maximum">Largest value, inclusive, of a number.</param>
/// <param name="Choices">The words, when <paramref name="Kind"/> is <see cref="AxisKind.Choice"/>; null where any text will
/// do, such as a file's name.</param>
/// <param name="AppliesTo">Null, or another axis and the words of it under which this one means anything: where it does
/// not apply, it is left out of the trial, so that a product over it makes no trial twice.</param>
/// <param name="Required">Whether a sweep must name it.</param>
/// <param name="Word">The one word that may stand for a number, such as auto; null where there is none.</param>
public sealed record Axis(
    string Name,
    AxisKind Kind,
    string Summary,
    object? Default = null,
    double Minimum = double.NegativeInfinity,
    double Maximum = double.PositiveInfinity,
    IReadOnlyList<string>? Choices = null,
    (string Axis, IReadOnlyList<string> Words)? AppliesTo = null,
    bool Required = false,
    string? Word = null)
{
    /// <summary>Null, or another axis of a family's, such as n, that this one may not exceed. The default may: it is then cut to it.</summary>
    public string? NoMoreThan { get; init; }

    /// <summary>Of a family's axis of free words: each names a file, where the sweep file lies unless the path says otherwise. What it holds is part of the
    /// instance and travels with the sweep; <see cref="Instances.InstanceRequest.ReadFile"/> reads it.</summary>
    public bool IsFile { get; init; }
}

/// <summary>The values of a trial's own axes, by name. Values are long, double, string or bool.</summary>
public sealed class Settings
{
    public static readonly Settings None = new(new Dictionary<string, object>());

    private readonly IReadOnlyDictionary<string, object> _values;

    public Settings(IReadOnlyDictionary<string, object> values) => _values = values;

    public IReadOnlyDictionary<string, object> Values => _values;

    public bool Has(string name) => _values.ContainsKey(name);

    public int Integer(string name, int otherwise) =>
        _values.TryGetValue(name, out object? v) ? checked((int)Convert.ToInt64(v, null)) : otherwise;

    public double Real(string name, double otherwise) =>
        _values.TryGetValue(name, out object? v) ? Convert.ToDouble(v, null) : otherwise;

    public string Word(string name, string otherwise) =>
        _values.TryGetValue(name, out object? v) ? (string)v : otherwise;

    public bool Flag(string name, bool otherwise) => _values.TryGetValue(name, out object? v) ? (bool)v : otherwise;
}
