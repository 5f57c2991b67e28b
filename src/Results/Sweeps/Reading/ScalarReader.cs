using System.Globalization;
using Experiments.Results.Sweeps.Expressions;

namespace Experiments.Results.Sweeps.Reading;

/// <summary>Reads single values: words, whole numbers, durations, sizes, shares, expressions. Null after a fault.</summary>
internal sealed class ScalarReader(FaultList faults, IReadOnlySet<string> words)
{
    private static readonly (string Unit, double Seconds)[] Durations =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1), ("min", 60), ("m", 60), ("h", 3600), ("d", 86400)];

    private static readonly (string Unit, double Bytes)[] Sizes =
    [
        ("KiB", 1024), ("MiB", 1048576), ("GiB", 1073741824), ("TiB", 1099511627776),
        ("kB", 1e3), ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("B", 1),
    ];

    public SourceScalar? Scalar(SourceNode node, string what)
    {
        if (node is SourceScalar { IsNull: false } scalar)
        {
            return scalar;
        }

        faults.Add(node.Place, $"{what} needs a single value{(node is SourceScalar ? ", and has none" : "")}.");
        return null;
    }

    public Expression? Expression(SourceScalar scalar)
    {
        try
        {
            return ExpressionParser.Parse(scalar.Value, words);
        }
        catch (ExpressionException ex)
        {
            bool cut = !scalar.Quoted && scalar.Value.Count(c => c == '(') > scalar.Value.Count(c => c == ')');
            faults.Add(
                scalar.PlaceOf(ex.Position),
                ex.Message + (cut ? " Inside brackets YAML splits at a comma: put the expression in quotes." : ""));
            return null;
        }
    }

    /// <summary>A number given outright or as an expression of constants, such as 2**10.</summary>
    public double? Constant(SourceNode node, string what)
    {
        if (Scalar(node, what) is not SourceScalar scalar || Expression(scalar) is not Expression expression)
        {
            return null;
        }

        foreach (NameExpression name in expression.Names())
        {
            if (!ExpressionCompiler.IsConstant(name.Name))
            {
                faults.Add(
                    scalar.PlaceOf(name.Position),
                    $"{what} needs a number or an expression of numbers alone; '{name.Name}' is a name. "
                    + "An expression over other axes stands by itself, not in a list or a form.");
                return null;
            }
        }

        return Constant(scalar, expression, what);
    }

    public double? Constant(SourceScalar scalar, Expression expression, string what)
    {
        try
        {
            double value = ExpressionCompiler.Constant(expression);
            if (double.IsFinite(value))
            {
                return value;
            }

            faults.Add(scalar.Place, $"{what}: '{scalar.Value}' is {AxisType.Say(value)}; a finite number is needed.");
        }
        catch (ExpressionException ex)
        {
            faults.Add(
                scalar.PlaceOf(ex.Position),
                expression is WordExpression or FlagExpression ? $"{what} needs a number; '{scalar.Value}' is none." : ex.Message);
        }

        return null;
    }

    public long? Whole(SourceNode node, string what, long least, long most)
    {
        if (node is SourceScalar text
            && long.TryParse(text.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long exact))
        {
            return InRange(node, what, exact, least, most);
        }

        if (Constant(node, what) is not double value)
        {
            return null;
        }

        // Past 2^53 a double no longer tells neighbouring whole numbers apart.
        if (!double.IsInteger(value) || Math.Abs(value) > 9007199254740992)
        {
            faults.Add(node.Place, $"{what} is {AxisType.Say(value)} and needs a whole number{Range(least, most)}.");
            return null;
        }

        return InRange(node, what, (long)value, least, most);
    }

    public bool? Flag(SourceNode node, string what)
    {
        if (Scalar(node, what) is not SourceScalar scalar)
        {
            return null;
        }

        if (FlagOf(scalar) is bool flag)
        {
            return flag;
        }

        faults.Add(scalar.Place, $"{what} is '{scalar.Value}' and needs true or false.");
        return null;
    }

    public static bool? FlagOf(SourceScalar scalar) => scalar.Value switch
    {
        "true" or "True" or "TRUE" => true,
        "false" or "False" or "FALSE" => false,
        _ => null,
    };

    /// <param name="node">What was typed.</param>
    /// <param name="what">What it is.</param>
    /// <param name="choices">The words there are; none for any.</param>
    /// <param name="unlike">Told of a word that is like none of them, which is no slip of the pen.</param>
    public string? Word(SourceNode node, string what, IReadOnlyList<string> choices, Func<string, string>? unlike = null)
    {
        if (Scalar(node, what) is not SourceScalar scalar)
        {
            return null;
        }

        if (choices.Count == 0 || choices.Contains(scalar.Value))
        {
            return scalar.Value;
        }

        faults.Add(
            scalar.Place,
            $"{what} is '{scalar.Value}' and needs {OneOf(choices)}.{NearestName.Hint(scalar.Value, choices)}"
            + (unlike is not null && NearestName.Of(scalar.Value, choices) is null ? " " + unlike(scalar.Value) : ""));
        return null;
    }

    public TimeSpan? Duration(SourceNode node, string what)
    {
        if (Scalar(node, what) is not SourceScalar scalar)
        {
            return null;
        }

        if (Measured(scalar.Value, Durations) is double seconds && seconds <= 366 * 86400.0)
        {
            TimeSpan time = TimeSpan.FromTicks((long)Math.Round(seconds * TimeSpan.TicksPerSecond));
            if (time == TimeSpan.Zero && seconds > 0)
            {
                // Rounded to nothing it would pass for a 0, which means something of its own.
                faults.Add(scalar.Place, $"{what} is '{scalar.Value}' and needs at least 100ns, such as 50ms, 1.5s, 2min or 1h.");
                return null;
            }

            return time;
        }

        if (scalar.Value.Trim() is "0" or "0.0")
        {
            return TimeSpan.Zero;
        }

        faults.Add(scalar.Place, $"{what} is '{scalar.Value}' and needs a time with its unit: 50ms, 1.5s, 2min, 1h.");
        return null;
    }

    public long? Size(SourceNode node, string what)
    {
        if (Scalar(node, what) is not SourceScalar scalar)
        {
            return null;
        }

        if (SizeOf(scalar.Value) is long bytes)
        {
            return bytes;
        }

        faults.Add(scalar.Place, $"{what} is '{scalar.Value}' and needs a size above 0: 8GiB, 512MiB, 8GB, or bytes.");
        return null;
    }

    /// <summary>Bytes as people type them; null for what is none.</summary>
    public static long? SizeOf(string text)
    {
        double? bytes = Measured(text, Sizes);
        if (bytes is null && double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double plain))
        {
            bytes = plain;
        }

        return bytes is >= 1 and < 9e18 ? (long)bytes.Value : null;
    }

    public double? Share(SourceNode node, string what)
    {
        if (Scalar(node, what) is not SourceScalar scalar)
        {
            return null;
        }

        string text = scalar.Value.Trim();
        bool percent = text.EndsWith('%');
        if (double.TryParse(percent ? text[..^1] : text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value))
        {
            double share = percent ? value / 100 : value;
            if (share is >= 0 and <= 1)
            {
                return share;
            }
        }

        faults.Add(scalar.Place, $"{what} is '{scalar.Value}' and needs a share from 0 to 1: 2% or 0.02.");
        return null;
    }

    public static string OneOf(IReadOnlyList<string> choices) =>
        choices.Count == 1 ? choices[0] : $"{string.Join(", ", choices.Take(choices.Count - 1))} or {choices[^1]}";

    private static double? Measured(string text, (string Unit, double Factor)[] units)
    {
        text = text.Trim();
        int end = text.Length;
        while (end > 0 && (char.IsLetter(text[end - 1]) || text[end - 1] == 'µ'))
        {
            end--;
        }

        foreach ((string unit, double factor) in units)
        {
            if (text[end..] == unit
                && double.TryParse(text[..end], NumberStyles.AllowDecimalPoint | NumberStyles.AllowTrailingWhite,
                    CultureInfo.InvariantCulture, out double number))
            {
                return number * factor;
            }
        }

        return null;
    }

    private long? InRange(SourceNode node, string what, long value, long least, long most)
    {
        if (value >= least && value <= most)
        {
            return value;
        }

        faults.Add(node.Place, $"{what} is {value} and needs a whole number{Range(least, most)}.");
        return null;
    }

    private static string Range(long least, long most) =>
        $" from {least} to {most}";
}
