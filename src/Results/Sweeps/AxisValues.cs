using System.Globalization;
using Experiments.Results.Sweeps.Expressions;

namespace Experiments.Results.Sweeps;

internal enum AxisForm
{
    List,
    Range,
    Linspace,
    Logspace,
    Pow2,
}

/// <summary>The values of an axis, by position: a list, or a progression computed as it is asked for.</summary>
/// <param name="First">lo, or its exponent for <see cref="AxisForm.Pow2"/>.</param>
/// <param name="Second">The step of a range or of exponents; hi of the other forms.</param>
internal sealed record AxisValues(AxisForm Form, double First, double Second, long Count, IReadOnlyList<object>? Items)
{
    public static AxisValues Of(IReadOnlyList<object> items) => new(AxisForm.List, 0, 0, items.Count, items);

    /// <summary>A number, as it stands in the progression; only for forms of numbers.</summary>
    public double Number(long i) => Form switch
    {
        AxisForm.List => Convert.ToDouble(Items![(int)i], CultureInfo.InvariantCulture),
        AxisForm.Range => Step(First, Second, i),
        AxisForm.Linspace => Count == 1 ? First : i == Count - 1 ? Second : Between(First, Second, i, Count - 1),
        AxisForm.Logspace => Count == 1 ? First : ExactMath.Geometric(First, Second, i, Count - 1),
        AxisForm.Pow2 => Math.ScaleB(1, (int)(First + (Second * i))),
        _ => throw new InvalidOperationException($"No rule for the axis form {Form}."),
    };

    /// <summary>lo + i · step as people mean it: 0.1 + 2 · 0.1 is 0.3.</summary>
    public static double Step(double lo, double step, long i)
    {
        if (double.IsInteger(lo) && double.IsInteger(step))
        {
            return lo + (step * i);
        }

        // Decimals are what the file's author wrote; doubles are only their nearest neighbours.
        return AsDecimal(lo) is decimal a && AsDecimal(step) is decimal b && Math.Abs(i * step) < 1e14
            ? AsDouble(a + (b * i))
            : lo + (step * i);
    }

    /// <summary>How many values lo, lo + step, … up to and with hi there are; below 1 when there is none.</summary>
    public static double CountSteps(double lo, double hi, double step)
    {
        if (AsDecimal(lo) is decimal a && AsDecimal(hi) is decimal b && AsDecimal(step) is decimal c && c != 0
            && Math.Abs((hi - lo) / step) < 1e14)
        {
            return (double)Math.Floor((b - a) / c) + 1;
        }

        // Without decimals a rounding error must not cost the last value.
        return Math.Floor(((hi - lo) / step) + 1e-9) + 1;
    }

    private static double Between(double lo, double hi, long i, long last) =>
        AsDecimal(lo) is decimal a && AsDecimal(hi) is decimal b
            ? AsDouble(a + ((b - a) * i / last))
            : lo + ((hi - lo) * ((double)i / last));

    private static decimal? AsDecimal(double x) =>
        x == 0 || (Math.Abs(x) is >= 1e-10 and < 1e12)
            ? decimal.Parse(x.ToString("R", CultureInfo.InvariantCulture), NumberStyles.Float, CultureInfo.InvariantCulture)
            : null;

    // The conversion operator may be an ulp off; the text reads back to the nearest double.
    private static double AsDouble(decimal x) =>
        double.Parse(x.ToString(CultureInfo.InvariantCulture), NumberStyles.Float, CultureInfo.InvariantCulture);
}
