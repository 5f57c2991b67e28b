using Spectre.Console;

namespace Experiments.Client.Terminals;

/// <summary>Rows and columns for a person on a terminal, or aligned plain ASCII for a pipe, where nothing is cut.</summary>
public sealed class TextTable
{
    private readonly List<(string Name, bool Right)> _columns = [];
    private readonly List<string[]> _rows = [];

    public int Rows => _rows.Count;

    /// <summary>A column of words.</summary>
    public TextTable Left(params ReadOnlySpan<string> names) => Add(names, right: false);

    /// <summary>A column of numbers.</summary>
    public TextTable Right(params ReadOnlySpan<string> names) => Add(names, right: true);

    public TextTable Row(params ReadOnlySpan<string> cells)
    {
        if (cells.Length != _columns.Count)
        {
            throw new ArgumentException($"A row of {cells.Length} cells was given to a table of {_columns.Count} columns.");
        }

        string[] row = cells.ToArray();
        for (int c = 0; c < row.Length; c++)
        {
            row[c] = Format.Shown(row[c]);
        }

        _rows.Add(row);
        return this;
    }

    /// <summary>Writes to standard output.</summary>
    public void Write(Terminal terminal, string? title = null)
    {
        if (title is not null)
        {
            terminal.Out.WriteLine(Format.Shown(title));
        }

        if (terminal.OutIsTerminal && LeastWidth() <= terminal.Width)
        {
            WriteForPerson(terminal);
        }
        else
        {
            WritePlain(terminal.Out);
        }
    }

    private TextTable Add(ReadOnlySpan<string> names, bool right)
    {
        foreach (string name in names)
        {
            _columns.Add((Format.OneLine(name), right));
        }

        return this;
    }

    // Where even this is too wide a drawn table would shrink to a lone "…"; plain lines, which the terminal wraps, lose nothing.
    private int LeastWidth()
    {
        int width = 1;
        for (int c = 0; c < _columns.Count; c++)
        {
            IEnumerable<string> cells = _rows.Select(r => r[c]).Append(_columns[c].Name);
            width += 3 + (_columns[c].Right
                ? cells.Max(cell => cell.Length)
                : cells.SelectMany(cell => cell.Split((char[])[' ', '\n'])).Max(word => word.Length));
        }

        return width;
    }

    private void WriteForPerson(Terminal terminal)
    {
        IAnsiConsole console = Rendering.Console(terminal.Out, terminal, interactive: false);
        Table table = new() { Border = terminal.Color ? TableBorder.Rounded : TableBorder.Simple };
        foreach ((string name, bool right) in _columns)
        {
            TableColumn column = new(Markup.Escape(name));
            table.AddColumn(right ? column.RightAligned().NoWrap() : column);
        }

        foreach (string[] row in _rows)
        {
            table.AddRow([.. row.Select(c => new Text(c))]);
        }

        console.Write(table);
    }

    private void WritePlain(TextWriter output)
    {
        int[] widths = new int[_columns.Count];
        for (int c = 0; c < widths.Length; c++)
        {
            widths[c] = _rows.Select(r => Format.OneLine(r[c]).Length).Append(_columns[c].Name.Length).Max();
        }

        WriteLine(output, [.. _columns.Select(c => c.Name)], widths);
        WriteLine(output, [.. widths.Select(w => new string('-', w))], widths);
        foreach (string[] row in _rows)
        {
            WriteLine(output, row, widths);
        }
    }

    private void WriteLine(TextWriter output, string[] cells, int[] widths)
    {
        for (int c = 0; c < cells.Length; c++)
        {
            // A row is a line: what reads the pipe splits on it.
            string cell = Format.OneLine(cells[c]);
            bool last = c == cells.Length - 1;
            output.Write(_columns[c].Right ? cell.PadLeft(widths[c]) : last ? cell : cell.PadRight(widths[c]));
            output.Write(last ? "\n" : "  ");
        }
    }
}
