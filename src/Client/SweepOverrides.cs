using Experiments.Results.Sweeps;
using Experiments.Silo.Configuration;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Experiments.Client;

/// <summary>What <c>--set</c> made of a sweep file.</summary>
/// <remarks>Paths are keys joined by dots, list items by their number from 0: <c>instances.bound=[1,2]</c>, <c>kernels.1.degree=4</c>.</remarks>
internal sealed class SweepOverrides
{
    // As deep as a sweep file may be nested.
    private const int DeepestKey = 32;

    // In the order of their places in Text, where nothing else stands at the same one.
    private readonly SortedList<(long Line, long Column), Origin> _origins = [];
    private readonly Dictionary<YamlNode, string> _set = new(ReferenceEqualityComparer.Instance);
    private readonly IReadOnlyList<string> _changes;
    private readonly string _name;

    private SweepOverrides(string name, IReadOnlyList<string> changes) => (_name, _changes) = (name, changes);

    /// <summary>The file's text with the changes.</summary>
    public string Text { get; private set; } = "";

    /// <exception cref="CommandException">A change is none, or does not fit the file.</exception>
    public static SweepOverrides Apply(string name, string text, IReadOnlyList<string> changes)
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

        if (yaml.Documents.Count > 1)
        {
            Mark second = yaml.Documents[1].RootNode.Start;
            throw CommandException.Invalid($"{name}:{second.Line}:{second.Column}: A second document begins here; a sweep file holds one.");
        }

        SweepOverrides made = new(name, changes);
        Dictionary<string, string> seen = new(StringComparer.Ordinal);
        foreach (string change in changes)
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

            made.Set(yaml.Documents[0].RootNode, path, ValueOf(change, change[(equals + 1)..]), change);
        }

        TellAnchorsApart(yaml.Documents[0].RootNode, []);
        using StringWriter writer = new();
        yaml.Save(writer, assignAnchors: false);

        // The writer ends a document with "...", which a reader of the stored source need not see.
        string saved = writer.ToString().Replace("\r\n", "\n", StringComparison.Ordinal);
        made.Text = saved.EndsWith("...\n", StringComparison.Ordinal) ? saved[..^4] : saved;
        made.Trace(yaml.Documents[0].RootNode, YamlText.Load(made.Text).Documents[0].RootNode, null, new(ReferenceEqualityComparer.Instance));
        return made;
    }

    /// <summary>The faults of <see cref="Text"/>, which nobody sees, told where they come from: of a <c>--set</c>, or of a place in the file.</summary>
    public CommandException Explain(SweepFileException faults)
    {
        List<string> lines = [];
        foreach (string line in faults.Message.Split('\n'))
        {
            SweepFault? fault = faults.Faults.FirstOrDefault(f => line == $"{faults.File}:{f.Line}:{f.Column}: {f.Message}");
            lines.Add(fault is null ? line : $"{PlaceOf(fault)}: {fault.Message}");
        }

        // What stands in the file may be at fault only for what was set elsewhere.
        if (!lines.Any(l => l.StartsWith("--set ", StringComparison.Ordinal)))
        {
            lines[^1] += $" It was read with {string.Join(", ", _changes.Select(c => $"--set '{c}'"))}.";
        }

        return CommandException.Invalid(string.Join('\n', lines.Distinct()), faults);
    }

    private string PlaceOf(SweepFault fault)
    {
        int after = _origins.Keys.TakeWhile(k => k.CompareTo((fault.Line, fault.Column)) <= 0).Count();
        if (after == 0)
        {
            return _name;
        }

        (long line, long column) = _origins.Keys[after - 1];
        Origin origin = _origins.Values[after - 1];
        return origin.Change is string change ? $"--set '{change}'"
            : $"{_name}:{origin.Line}:{origin.Column + (line == fault.Line ? fault.Column - column : 0)}";
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

    private void Set(YamlNode node, ReadOnlySpan<string> path, YamlNode value, string change)
    {
        string key = path[0];
        switch (node)
        {
            case YamlMappingNode map:
                YamlScalarNode name = new(key);
                if (!map.Children.TryGetValue(name, out YamlNode? child))
                {
                    child = new YamlMappingNode();
                    map.Children[name] = child;
                    _set[name] = _set[child] = change;
                }

                if (path.Length == 1)
                {
                    map.Children[name] = value;
                    _set[value] = change;
                }
                else
                {
                    Set(child, path[1..], value, change);
                }

                break;
            case YamlSequenceNode list when int.TryParse(key, out int index) && index >= 0 && index < list.Children.Count:
                if (path.Length == 1)
                {
                    list.Children[index] = value;
                    _set[value] = change;
                }
                else
                {
                    Set(list.Children[index], path[1..], value, change);
                }

                break;
            case YamlSequenceNode list:
                throw CommandException.Invalid(
                    $"--set '{change}': '{key}' must number one of {list.Children.Count} items, from 0.");
            default:
                throw CommandException.Invalid($"--set '{change}': '{key}' would be below a single value, which holds no keys.");
        }
    }

    // A file may give an anchor's name again, and a change may have one of the file's: the writer would make of the second an alias of the first.
    private static void TellAnchorsApart(YamlNode node, Dictionary<AnchorName, YamlNode> anchors)
    {
        if (!node.Anchor.IsEmpty)
        {
            AnchorName name = node.Anchor;
            for (int i = 2; !anchors.TryAdd(node.Anchor, node); i++)
            {
                if (anchors[node.Anchor] == (object)node)
                {
                    return;
                }

                node.Anchor = new AnchorName($"{name.Value}-{i}");
            }
        }

        foreach (YamlNode child in node switch
        {
            YamlMappingNode map => map.Children.SelectMany(c => (YamlNode[])[c.Key, c.Value]),
            YamlSequenceNode list => list.Children,
            _ => [],
        })
        {
            TellAnchorsApart(child, anchors);
        }
    }

    /// <summary>Both trees are the same but for their places: those in the file, and those in the text that was made of it.</summary>
    private void Trace(YamlNode from, YamlNode made, string? change, HashSet<YamlNode> traced)
    {
        // An alias is the node that it stands for, perhaps one that holds it.
        if (!traced.Add(made))
        {
            return;
        }

        change = _set.GetValueOrDefault(from) ?? change;
        _origins.TryAdd((made.Start.Line, made.Start.Column), new(from.Start.Line, from.Start.Column, change));
        switch (from, made)
        {
            case (YamlMappingNode one, YamlMappingNode other):
                foreach (((YamlNode key, YamlNode value), (YamlNode madeKey, YamlNode madeValue)) in one.Children.Zip(other.Children))
                {
                    Trace(key, madeKey, change, traced);
                    Trace(value, madeValue, change, traced);
                }

                break;
            case (YamlSequenceNode one, YamlSequenceNode other):
                foreach ((YamlNode item, YamlNode madeItem) in one.Children.Zip(other.Children))
                {
                    Trace(item, madeItem, change, traced);
                }

                break;
        }
    }

    /// <param name="Change">The <c>--set</c> that it came by; null of what stands in the file.</param>
    private readonly record struct Origin(long Line, long Column, string? Change);
}
