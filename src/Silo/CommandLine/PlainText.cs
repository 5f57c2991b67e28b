using System.Buffers;
using System.Globalization;
using System.Text;

namespace Experiments.Silo.CommandLine;

/// <summary>Text of anyone's for a terminal.</summary>
public static class PlainText
{
    // Control characters, escape sequences' first among them, and what turns the direction of writing or ends a line unseen.
    private static readonly SearchValues<char> Steering = SearchValues.Create(
    [
        .. Enumerable.Range(0, 0x20).Concat(Enumerable.Range(0x7f, 0x21)).Select(c => (char)c),
        '\u200e', '\u200f', '\u2028', '\u2029', '\u202a', '\u202b', '\u202c', '\u202d', '\u202e', '\u2066', '\u2067', '\u2068', '\u2069',
    ]);

    /// <summary>What would steer the terminal rather than be seen is shown as <c>\u001b</c>, line feeds and tabs excepted.</summary>
    public static string Shown(string text)
    {
        if (!text.AsSpan().ContainsAny(Steering))
        {
            return text;
        }

        StringBuilder shown = new(text.Length + 16);
        foreach (char c in text)
        {
            _ = c is not ('\n' or '\t') && Steering.Contains(c) ? shown.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}") : shown.Append(c);
        }

        return shown.ToString();
    }
}
