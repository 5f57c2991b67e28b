using Experiments.Results.Sweeps;
using Experiments.Silo.Configuration;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Experiments.Client;

/// <summary>A sweep as named on the command line: a file, or one of the presets that come with the client.</summary>
/// <param name="Name">What faults and messages call it.</param>
/// <param name="Text">The file's text, with any <c>--set</c> applied.</param>
/// <param name="Folder">What relative folders in it are relative to.</param>
public sealed record SweepSource(string Name, string Text, string Folder)
{
    // As deep as a sweep file may be nested.
    private const int DeepestKey = 32;

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
        return overrides.Count == 0
            ? new(name, text, folder)
            : new($"{name} with --set", WithOverrides(name, text, overrides), folder);
    }

    /// <summary>A stored sweep's file, with changes. Its folder is not known: relative ones in it that the sweep does not have are relative to where the command runs.</summary>
    /// <exception cref="CommandException">An override does not fit.</exception>
    public static SweepSource Of(string name, string text, IReadOnlyList<string> overrides) => overrides.Count == 0
        ? new(name, text, ".")
        : new($"{name} with --set", WithOverrides(name, text, overrides), ".");

    /// <param name="of">The stored sweep whose file this is; null for a file of its own.</param>
    public SweepSpec Parse(Catalog catalog, SweepSpec? of = null) => SweepFile.Parse(Text, Name, Folder, catalog, of);

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

    // Paths are keys joined by dots, list items by their number from 0: instances.bound=[1,2], kernels.1.degree=4.
    private static string WithOverrides(string name, string text, IReadOnlyList<string> overrides)
    {
        YamlStream yaml;
        try
        {
            yaml = YamlText.Load(text);
        }
        catch (YamlException fault)
        {
            throw CommandException.Invalid($"{name}:{fault.Start.Line}:{fault.Start.Column}: {fault.Message}", fault);
        }

        if (yaml.Documents.Count == 0)
        {
            throw CommandException.Invalid($"{name}:1:1: The file is empty; there is nothing to --set.");
        }

        Dictionary<string, string> seen = new(StringComparer.Ordinal);
        foreach (string change in overrides)
        {
            int equals = change.IndexOf('=', StringComparison.Ordinal);
            if (equals < 1)
            {
                throw CommandException.Invalid($"--set '{change}': key=value is needed, such as measure.rounds=3.");
            }

            string key = change[..equals].Trim();
            if (!seen.TryAdd(key, change))
            {
                throw CommandException.Invalid($"--set gives {key} twice, '{seen[key]}' and '{change}'; give it once, a list for several values.");
            }

            string[] path = key.Split('.');
            if (path.Length > DeepestKey)
            {
                throw CommandException.Invalid($"--set was given a key of {path.Length} parts; no key of a sweep file has more than {DeepestKey}.");
            }

            Apply(yaml.Documents[0].RootNode, path, ValueOf(change, change[(equals + 1)..]), change);
        }

        using StringWriter writer = new();
        yaml.Save(writer, assignAnchors: false);

        // The writer ends a document with "...", which a reader of the stored source need not see.
        string saved = writer.ToString().Replace("\r\n", "\n", StringComparison.Ordinal);
        return saved.EndsWith("...\n", StringComparison.Ordinal) ? saved[..^4] : saved;
    }

    private static YamlNode ValueOf(string change, string text)
    {
        try
        {
            YamlStream value = YamlText.Load(text);
            return value.Documents.Count > 0 ? value.Documents[0].RootNode : new YamlScalarNode("");
        }
        catch (YamlException fault)
        {
            throw CommandException.Invalid($"--set '{change}': the value is not YAML: {fault.Message}", fault);
        }
    }

    private static void Apply(YamlNode node, ReadOnlySpan<string> path, YamlNode value, string change)
    {
        string key = path[0];
        switch (node)
        {
            case YamlMappingNode map when path.Length == 1:
                map.Children[new YamlScalarNode(key)] = value;
                break;
            case YamlMappingNode map:
                if (!map.Children.TryGetValue(new YamlScalarNode(key), out YamlNode? child))
                {
                    child = new YamlMappingNode();
                    map.Children[new YamlScalarNode(key)] = child;
                }

                Apply(child, path[1..], value, change);
                break;
            case YamlSequenceNode list when int.TryParse(key, out int index) && index >= 0 && index < list.Children.Count:
                if (path.Length == 1)
                {
                    list.Children[index] = value;
                }
                else
                {
                    Apply(list.Children[index], path[1..], value, change);
                }

                break;
            case YamlSequenceNode list:
                throw CommandException.Invalid(
                    $"--set '{change}': '{key}' must number one of {list.Children.Count} items, from 0.");
            default:
                throw CommandException.Invalid($"--set '{change}': there is nothing below '{key}' to set.");
        }
    }
}
