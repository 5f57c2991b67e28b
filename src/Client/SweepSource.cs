using Experiments.Results.Sweeps;

namespace Experiments.Client;

/// <summary>A sweep as named on the command line: a file, or one of the presets that come with the client.</summary>
/// <param name="Name">What faults and messages call it.</param>
/// <param name="Text">The file's text, with any <c>--set</c> applied.</param>
/// <param name="Folder">What relative folders in it are relative to.</param>
public sealed record SweepSource(string Name, string Text, string Folder)
{
    private SweepOverrides? Overrides { get; init; }

    /// <summary>Where the presets lie: beside the program.</summary>
    public static string PresetFolder => Path.Combine(AppContext.BaseDirectory, "Sweeps");

    public static IReadOnlyList<string> Presets => Directory.Exists(PresetFolder)
        ? [.. Directory.EnumerateFiles(PresetFolder, "*.yaml").Select(f => Path.GetFileNameWithoutExtension(f)!)
            .Order(StringComparer.Ordinal)]
        : [];

    /// <exception cref="CommandException">There is no such file or preset, or an override does not fit.</exception>
    /// <exception cref="SweepFileException">The file cannot be read.</exception>
    public static SweepSource Find(string fileOrPreset, IReadOnlyList<string> overrides)
    {
        string path = fileOrPreset;
        string name = fileOrPreset;
        if (!File.Exists(path))
        {
            string preset = Path.Combine(PresetFolder, fileOrPreset + ".yaml");
            if (Path.GetFileName(fileOrPreset) != fileOrPreset || !File.Exists(preset))
            {
                throw NotFound(fileOrPreset);
            }

            path = preset;
            name = fileOrPreset + ".yaml";
        }

        string text = SweepFile.ReadText(path);
        string folder = Path.GetDirectoryName(Path.GetFullPath(path)) ?? ".";
        return With(name, text, folder, overrides);
    }

    /// <summary>A stored sweep's file, with changes. Its folder is not known: relative ones in it that the sweep does not have are relative to where the command runs.</summary>
    /// <exception cref="CommandException">An override does not fit.</exception>
    public static SweepSource Of(string name, string text, IReadOnlyList<string> overrides) => With(name, text, ".", overrides);

    /// <param name="of">The stored sweep whose file this is; null for a file of its own.</param>
    /// <exception cref="SweepFileException">The file has faults.</exception>
    /// <exception cref="CommandException">It has with what was set.</exception>
    public SweepSpec Parse(Catalog catalog, SweepSpec? of = null)
    {
        try
        {
            return SweepFile.Parse(Text, Name, Folder, catalog, of);
        }
        catch (SweepFileException faults) when (Overrides is SweepOverrides overrides)
        {
            throw overrides.Explain(faults);
        }
    }

    private static SweepSource With(string name, string text, string folder, IReadOnlyList<string> overrides)
    {
        if (overrides.Count == 0)
        {
            return new(name, text, folder);
        }

        SweepOverrides applied = SweepOverrides.Apply(name, text, overrides);
        return new($"{name} with --set", applied.Text, folder) { Overrides = applied };
    }

    private static CommandException NotFound(string given)
    {
        if (Directory.Exists(given))
        {
            return CommandException.Invalid($"'{given}' is a folder; a sweep file or a preset is needed.");
        }

        string presets = Presets.Count == 0 ? "" : $"\nPresets: {string.Join(", ", Presets)}.";
        return CommandException.Invalid(
            $"There is no file and no preset '{given}'.{NearestName.Hint(given, Presets)}{presets}");
    }
}
