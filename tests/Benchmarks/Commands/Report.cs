using Experiments.Benchmarks.Contenders;
using Experiments.Benchmarks.Measuring;

namespace Experiments.Benchmarks.Commands;

/// <summary>What a command found: printed as it comes, and kept for the Markdown file, which is written at the end.</summary>
internal sealed class Report : IDisposable
{
    private readonly string? _file;
    private readonly List<string> _kept = [];

    public Report(string[] args, string? file, IRivals? rivals)
    {
        _file = file;
        if (file is not null && Path.GetDirectoryName(Path.GetFullPath(file)) is string folder && !Directory.Exists(folder))
        {
            throw new ArgumentException($"--markdown '{file}': there is no such folder. Make it first.");
        }

        Keep("Made by\n");
        Keep($"    dotnet run -c Release --project tests/Benchmarks -- {string.Join(' ', args)}\n");
        Line($"Machine: {Machine.Hardware()}.");
        Line($"Ours: {Machine.Instructions()}.");
        if (rivals is not null)
        {
            Line($"{rivals.Name}: {rivals.Describe()}.");
        }

        if (Machine.Load() is double load)
        {
            // Other people's work on the same cores widens the intervals; a reader should know how much there was.
            Line($"Load average of the minute before: {Figures.Digits(load)}.");
        }

        Line("");
    }

    /// <summary>Printed and kept.</summary>
    public void Line(string text)
    {
        Console.WriteLine(text);
        Keep(text);
    }

    /// <summary>Printed only: what helps whoever watches.</summary>
    public static void Progress(string text) => Console.WriteLine(text);

    /// <summary>Kept only.</summary>
    public void Keep(string text) => _kept.Add(text);

    public void Table(MarkdownTable table)
    {
        if (table.Rows > 0)
        {
            Line(table.ToString());
        }
    }

    public void Dispose()
    {
        if (_file is not null)
        {
            File.WriteAllText(_file, string.Join('\n', _kept).Replace("\n\n\n", "\n\n", StringComparison.Ordinal).TrimEnd() + "\n");
            Console.WriteLine($"Written: {_file}");
        }
    }
}
