using System.Text;

namespace Experiments.Benchmarks;

/// <summary>A table that reads well as plain text and is Markdown as it stands: the same on a terminal and in a file.</summary>
/// <param name="columns">Names; one that begins with '&lt;' is a column of words, without the '&lt;', others hold numbers.</param>
internal sealed class MarkdownTable(params string[] columns)
{
    private readonly List<string[]> _rows = [];

    public int Rows => _rows.Count;

    public void Row(params string[] cells) => _rows.Add(cells.Length == columns.Length
        ? cells
        : throw new InvalidOperationException($"A row of {cells.Length} cells was given to a table of {columns.Length} columns."));

    public override string ToString()
    {
        string[] names = [.. columns.Select(c => c.TrimStart('<'))];
        int[] widths = [.. names.Select((name, c) => _rows.Select(r => r[c].Length).Append(Math.Max(3, name.Length)).Max())];
        StringBuilder text = new();
        Line(text, names, widths);
        text.Append('|');
        for (int c = 0; c < columns.Length; c++)
        {
            text.Append(' ').Append('-', widths[c] - 1).Append(Words(c) ? "- |" : ": |");
        }

        text.Append('\n');
        foreach (string[] row in _rows)
        {
            Line(text, row, widths);
        }

        return text.ToString();
    }

    private bool Words(int column) => columns[column].StartsWith('<');

    private void Line(StringBuilder text, string[] cells, int[] widths)
    {
        text.Append('|');
        for (int c = 0; c < cells.Length; c++)
        {
            text.Append(' ').Append(Words(c) ? cells[c].PadRight(widths[c]) : cells[c].PadLeft(widths[c])).Append(" |");
        }

        text.Append('\n');
    }
}
