using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsvHelper;
using Experiments.Client.Terminals;
using Experiments.Results.Store;

namespace Experiments.Client;

/// <summary>Rows of the store as text, streamed: aligned columns, CSV or JSON.</summary>
internal static class Answers
{
    // Widths are taken from so many rows; a longer cell further down is not cut, it only shifts its line.
    private const int RowsForWidths = 500;

    /// <summary>Writes an answer to standard output: all of it or, when it fails within what can be held back, nothing. Of a longer one
    /// standard error says that it is not whole.</summary>
    /// <param name="write">Writes it and returns the number of rows.</param>
    public static async Task<long> WriteWholeAsync(Terminal terminal, Func<TextWriter, Task<long>> write)
    {
        await using HeldWriter held = new(terminal.Out);
        try
        {
            long count = await write(held);
            held.Release();
            return count;
        }
        catch (Exception fault) when (held.Released && !ErrorBoundary.IsBrokenPipe(fault))
        {
            await terminal.Out.FlushAsync(CancellationToken.None);
            terminal.Notice("What was printed is only the answer's beginning; it failed on the way:");
            throw;
        }
    }

    /// <returns>The number of rows.</returns>
    public static async Task<long> WriteTableAsync(ResultRows rows, TextWriter output, CancellationToken cancellation)
    {
        List<ResultColumn> columns = [.. Distinct(rows.Columns).Select(c => c with { Name = Format.OneLine(c.Name) })];
        List<string[]> head = [];
        int[]? widths = null;
        long count = 0;
        await foreach (object?[] row in rows.ReadAsync(cancellation))
        {
            count++;
            string[] cells = [.. row.Select(Cell)];
            if (widths is not null)
            {
                WriteLine(output, cells, columns, widths);
                continue;
            }

            head.Add(cells);
            if (head.Count == RowsForWidths)
            {
                widths = WriteHead(output, columns, head);
            }
        }

        if (widths is null)
        {
            WriteHead(output, columns, head);
        }

        return count;
    }

    /// <returns>The number of rows.</returns>
    public static async Task<long> WriteCsvAsync(ResultRows rows, TextWriter output, CancellationToken cancellation)
    {
        List<ResultColumn> columns = Distinct(rows.Columns);
        await using CsvWriter csv = CsvWriter.Create(output, new CsvWriterOptions { NewLine = "\n" }, leaveOpen: true);
        string?[] fields = [.. columns.Select(c => c.Name)];
        await csv.WriteRecordAsync(fields!, cancellation);
        long count = 0;
        await foreach (object?[] row in rows.ReadAsync(cancellation))
        {
            for (int c = 0; c < fields.Length; c++)
            {
                fields[c] = row[c] is null ? null : Format.Value(row[c]);
            }

            await csv.WriteRecordAsync(fields!, cancellation);
            count++;
        }

        await csv.FlushAsync(cancellation);
        return count;
    }

    /// <summary>An array of objects, a row a line.</summary>
    /// <returns>The number of rows.</returns>
    public static async Task<long> WriteJsonAsync(ResultRows rows, TextWriter output, CancellationToken cancellation)
    {
        List<ResultColumn> columns = Distinct(rows.Columns);
        using MemoryStream line = new();
        using Utf8JsonWriter json = new(line, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
        await output.WriteAsync("[");
        long count = 0;
        await foreach (object?[] row in rows.ReadAsync(cancellation))
        {
            line.SetLength(0);
            json.Reset();
            json.WriteStartObject();
            for (int c = 0; c < columns.Count; c++)
            {
                json.WritePropertyName(columns[c].Name);
                WriteValue(json, columns[c], row[c]);
            }

            json.WriteEndObject();
            await json.FlushAsync(cancellation);
            await output.WriteAsync(count == 0 ? "\n  " : ",\n  ");
            await output.WriteAsync(Encoding.UTF8.GetString(line.GetBuffer(), 0, (int)line.Length));
            count++;
        }

        await output.WriteLineAsync(count == 0 ? "]" : "\n]");
        return count;
    }

    /// <summary>Two columns of one name would be one key in JSON: the second is called name_2.</summary>
    private static List<ResultColumn> Distinct(IReadOnlyList<ResultColumn> given)
    {
        List<ResultColumn> columns = [];
        foreach (ResultColumn column in given)
        {
            string name = column.Name;
            for (int again = 2; columns.Any(c => c.Name == name); again++)
            {
                name = string.Create(CultureInfo.InvariantCulture, $"{column.Name}_{again}");
            }

            columns.Add(column with { Name = name });
        }

        return columns;
    }

    private static bool IsNumber(ResultColumn column) => column.Type == typeof(short) || column.Type == typeof(int)
        || column.Type == typeof(long) || column.Type == typeof(float) || column.Type == typeof(double)
        || column.Type == typeof(decimal);

    private static string Cell(object? value) => Format.OneLine(Format.Value(value));

    private static int[] WriteHead(TextWriter output, List<ResultColumn> columns, List<string[]> head)
    {
        int[] widths = [.. columns.Select((column, c) => head.Select(r => r[c].Length).Append(column.Name.Length).Max())];
        WriteLine(output, [.. columns.Select(c => c.Name)], columns, widths);
        WriteLine(output, [.. widths.Select(w => new string('-', w))], columns, widths);
        foreach (string[] row in head)
        {
            WriteLine(output, row, columns, widths);
        }

        return widths;
    }

    private static void WriteLine(TextWriter output, string[] cells, List<ResultColumn> columns, int[] widths)
    {
        for (int c = 0; c < cells.Length; c++)
        {
            bool last = c == cells.Length - 1;
            output.Write(IsNumber(columns[c]) ? cells[c].PadLeft(widths[c]) : last ? cells[c] : cells[c].PadRight(widths[c]));
            output.Write(last ? "\n" : "  ");
        }
    }

    private static void WriteValue(Utf8JsonWriter json, ResultColumn column, object? value)
    {
        switch (value)
        {
            case null:
                json.WriteNullValue();
                break;
            case string text when column.PostgresType is "json" or "jsonb":
                json.WriteRawValue(text);
                break;
            // A numeric beyond decimal arrives as text: JSON has room for any number of digits.
            case string text when IsNumber(column) && char.IsAsciiDigit(text[^1]):
                json.WriteRawValue(text, skipInputValidation: true);
                break;
            default:
                if (JsonOutput.Value(value) is JsonNode node)
                {
                    node.WriteTo(json);
                }
                else
                {
                    json.WriteNullValue();
                }

                break;
        }
    }
}
