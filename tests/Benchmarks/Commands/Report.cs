using Experiments.Benchmarks.Contenders;
using Experiments.Benchmarks.Measuring;

namespace Experiments.Benchmarks.Commands;

/// <summary>What a command found: printed as it comes, and kept for its section of the Markdown file, written at the end.</summary>
internal sealed class Report
{
    private const string Title = "# Results\n\nEach section is written by the command it names, with `--markdown`, and replaced when that runs again.\n";

    private readonly string? _file;
    private readonly string _heading;
    private readonly List<string> _kept = [];

    public Report(string[] args, string? file, IRivals? rivals)
    {
        _file = file;
        int option = Array.IndexOf(args, "--markdown");
        _heading = string.Join(' ', option < 0 ? args : [.. args[..option], .. args[(option + 2)..]]);
        if (file is not null && Path.GetDirectoryName(Path.GetFullPath(file)) is string folder && !Directory.Exists(folder))
        {
            throw new ArgumentException($"--markdown '{file}': there is no such folder. Make it first.");
        }

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

    /// <summary>Closes the report: writes the section, if a file was named. Last: a run that fails leaves the file as it was.</summary>
    public void Write()
    {
        if (Machine.Load() is double load)
        {
            Line($"Load average at the end: {Figures.Digits(load)}.");
        }

        if (_file is null)
        {
            return;
        }

        const string Mark = "\n## ";
        string[] parts = (File.Exists(_file) ? File.ReadAllText(_file) : Title).Split(Mark);
        string section = $"{_heading}\n\n{string.Join('\n', _kept).Replace("\n\n\n", "\n\n", StringComparison.Ordinal).Trim('\n')}\n";
        int old = Array.FindIndex(parts, 1, part => part.StartsWith(_heading + "\n", StringComparison.Ordinal));
        if (old < 0)
        {
            parts = [.. parts, section];
        }
        else
        {
            parts[old] = section;
        }

        File.WriteAllText(_file, string.Join(Mark, parts.Select(part => part.TrimEnd() + "\n")));
        Console.WriteLine($"Written: {_file}");
    }
}
