using System.Globalization;
using Experiments.Benchmarks.Measuring;

namespace Experiments.Benchmarks;

/// <summary>Numbers as the tables show them: three digits, and the unit where it is not the column's.</summary>
internal static class Figures
{
    public static string Milliseconds(double seconds) => Digits(1e3 * seconds);

    /// <summary>Three significant digits, never an exponent for what a table usually holds.</summary>
    public static string Digits(double value)
    {
        if (double.IsNaN(value))
        {
            return "–";
        }

        double size = Math.Abs(value);
        string format = size >= 100 || size == 0 ? "0" : size >= 10 ? "0.0" : size >= 1 ? "0.00" : size >= 0.001 ? "0.000" : "0.0e0";
        return value.ToString(format, CultureInfo.InvariantCulture);
    }

    public static string Error(double value) =>
        double.IsNaN(value) ? "–" : value == 0 ? "0" : value.ToString("0.0e0", CultureInfo.InvariantCulture);

    /// <summary>1.93 [1.90, 1.95].</summary>
    public static string Ratio(Interval interval) =>
        $"{Digits(interval.Value)} [{Digits(interval.Low)}, {Digits(interval.High)}]";

    /// <summary>71.2 % [70.8, 71.9].</summary>
    public static string Percent(Interval interval) => string.Create(CultureInfo.InvariantCulture,
        $"{100 * interval.Value:0.0} % [{100 * interval.Low:0.0}, {100 * interval.High:0.0}]");

    public static string Bytes(double bytes) => bytes >= 1L << 30
        ? string.Create(CultureInfo.InvariantCulture, $"{bytes / (1L << 30):0.00} GiB")
        : string.Create(CultureInfo.InvariantCulture, $"{bytes / (1L << 20):0.0} MiB");

    public static string Count(int count, string thing) => $"{count} {thing}{(count == 1 ? "" : "s")}";
}
