using System.Buffers;
using System.Globalization;

namespace Experiments.Client.Terminals;

/// <summary>Numbers as a person reads them; the same everywhere, whatever the locale.</summary>
public static class Format
{
    private static readonly CultureInfo Culture = CultureInfo.InvariantCulture;

    // What array_out of PostgreSQL quotes an element for.
    private static readonly SearchValues<char> QuotedInArrays = SearchValues.Create("{},\"\\ \t\r\n\v\f");

    /// <summary>1234567 as 1,234,567.</summary>
    public static string Count(long value) => value.ToString("N0", Culture);

    /// <summary>1 trial, 1,234 trials.</summary>
    public static string Count(long value, string what) => $"{Count(value)} {what}{(value == 1 ? "" : "s")}";

    /// <summary>Three significant digits, with an exponent where that is shorter: 0.00123, 1.2e-05, 12.3, 4.56e+07.</summary>
    public static string Number(double? value)
    {
        if (value is not double number)
        {
            return "-";
        }

        if (!double.IsFinite(number) || number == 0)
        {
            return number.ToString(Culture);
        }

        double size = Math.Abs(number);
        if (size < 1e-3 || size >= 1e6)
        {
            return number.ToString("0.00e+00", Culture);
        }

        int decimals = Math.Max(0, 2 - (int)Math.Floor(Math.Log10(size)));
        return number.ToString("F" + decimals.ToString(Culture), Culture);
    }

    /// <summary>Seconds of one call: 1.23 us, 45.6 ms, 7.89 s.</summary>
    public static string Seconds(double? seconds)
    {
        if (seconds is not double s || !double.IsFinite(s))
        {
            return "-";
        }

        return Math.Abs(s) switch
        {
            0 => "0 s",
            < 1e-6 => Number(s * 1e9) + " ns",
            < 1e-3 => Number(s * 1e6) + " us",
            < 1 => Number(s * 1e3) + " ms",
            < 600 => Number(s) + " s",
            _ => Duration(TimeSpan.FromSeconds(s)),
        };
    }

    /// <summary>A wait: 8 s, 3 min 20 s, 2 h 05 min, 3 d 04 h.</summary>
    public static string Duration(TimeSpan time) => time.TotalSeconds switch
    {
        < 10 => time.TotalSeconds.ToString("0.0", Culture) + " s",
        < 60 => time.TotalSeconds.ToString("0", Culture) + " s",
        < 3600 => string.Create(Culture, $"{(int)time.TotalMinutes} min {time.Seconds:00} s"),
        < 86400 => string.Create(Culture, $"{(int)time.TotalHours} h {time.Minutes:00} min"),
        _ => string.Create(Culture, $"{(long)time.TotalDays} d {time.Hours:00} h"),
    };

    /// <summary>Bytes in binary units: 34.1 GiB.</summary>
    public static string Bytes(double bytes)
    {
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        int unit = 0;
        while (bytes >= 1024 && unit < units.Length - 1)
        {
            bytes /= 1024;
            unit++;
        }

        return (unit == 0 ? bytes.ToString("0", Culture) : Number(bytes)) + " " + units[unit];
    }

    /// <summary>A point in time, in UTC to the second.</summary>
    public static string Time(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss'Z'", Culture);

    public static string Percent(double share) => (share * 100).ToString(share is > 0 and < 0.1 ? "0.0" : "0", Culture) + "%";

    /// <summary>Text of anyone's for a terminal: what would steer the terminal rather than be seen is shown as <c>\u001b</c>, line feeds and tabs
    /// excepted.</summary>
    public static string Shown(string text) => PlainText.Shown(text);

    /// <summary>The same in one line.</summary>
    public static string OneLine(string text) => Shown(text.AsSpan().ContainsAny('\n', '\r', '\t')
        ? text.Replace("\r", "", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal).Replace("\t", "\\t", StringComparison.Ordinal)
        : text);

    /// <summary>A value of the store or a setting as text that reads back to the same.</summary>
    public static string Value(object? value) => value switch
    {
        null or DBNull => "",
        string text => text,
        bool flag => flag ? "true" : "false",
        double real => real.ToString("R", Culture),
        float real => real.ToString("R", Culture),
        DateTime time => time.ToString("yyyy-MM-dd HH:mm:ss.ffffff'Z'", Culture),
        DateTimeOffset time => time.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss.ffffff'Z'", Culture),
        byte[] bytes => "\\x" + Convert.ToHexStringLower(bytes),
        Array array => "{" + string.Join(',', Elements(array).Select(Element)) + "}",
        IFormattable formattable => formattable.ToString(null, Culture),
        _ => value.ToString() ?? "",
    };

    /// <summary>The elements of an array of the store, null where it has NULL. An array of shape (m, n, …) has m elements, arrays of shape (n, …)
    /// themselves.</summary>
    public static IEnumerable<object?> Elements(Array array) =>
        array.Rank == 1 ? array.Cast<object?>() : Slices([.. array.Cast<object?>()], array, 0);

    /// <summary>Quoted as PostgreSQL's own array literals, which it can be read back from.</summary>
    private static string Element(object? value) => value switch
    {
        null or DBNull => "NULL",
        string text when text.Length == 0 || text.Equals("NULL", StringComparison.OrdinalIgnoreCase) || text.AsSpan().ContainsAny(QuotedInArrays) =>
            $"\"{text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)}\"",
        _ => Value(value),
    };

    private static object?[] Slices(object?[] flat, Array shape, int dimension) =>
        dimension == shape.Rank - 1
            ? flat
            : [.. flat.Chunk(flat.Length / shape.GetLength(dimension)).Select(part => (object?)Slices(part, shape, dimension + 1))];
}
