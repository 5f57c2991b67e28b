using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace Experiments.Results.Sweeps.Reading;

/// <summary>A place in a sweep file, 1-based; 0 where a sweep came from the store and has no file.</summary>
internal readonly record struct Place(int Line, int Column);

/// <summary>A node of the file with its place.</summary>
internal abstract class SourceNode(Place place)
{
    public Place Place { get; } = place;
}

internal sealed class SourceScalar(Place place, string value, bool quoted, int? textOffset) : SourceNode(place)
{
    public string Value { get; } = value;

    public bool Quoted { get; } = quoted;

    public bool IsNull => !Quoted && Value is "" or "~" or "null";

    /// <summary>Where a character of the value stands in the file; the scalar's start where it is folded or escaped.</summary>
    public Place PlaceOf(int offset) =>
        textOffset is int before ? Place with { Column = Place.Column + before + offset } : Place;
}

internal sealed class SourceList(Place place, List<SourceNode> items) : SourceNode(place)
{
    public List<SourceNode> Items { get; } = items;
}

internal sealed class SourceMap(Place place, List<(SourceScalar Key, SourceNode Value)> entries) : SourceNode(place)
{
    public List<(SourceScalar Key, SourceNode Value)> Entries { get; } = entries;
}

/// <summary>Builds the tree from YAML's events, with anchors, aliases and merge keys resolved.</summary>
/// <remarks>Written over the event parser and not over YamlDotNet's own representation, which recurses without a bound
/// (a file of ten thousand brackets would end the process) and lets a few aliases stand for billions of nodes.</remarks>
internal sealed class SourceComposer
{
    private const int DeepestNesting = 32;
    private const int MostNodes = 1_000_000;

    private readonly string _text;
    private readonly Parser _parser;
    private readonly Action<Place, string> _fault;
    private readonly Dictionary<string, (SourceNode? Node, int Size)> _anchors = new(StringComparer.Ordinal);
    private int _nodes;

    private SourceComposer(string text, Action<Place, string> fault)
    {
        _text = text;
        _fault = fault;
        _parser = new Parser(new StringReader(text));
    }

    /// <summary>The file's one document, or null after reporting why there is none.</summary>
    public static SourceNode? Compose(string text, Action<Place, string> fault)
    {
        try
        {
            return new SourceComposer(text, fault).ComposeDocument();
        }
        catch (StructureException ex)
        {
            fault(ex.Place, ex.Message);
        }
        catch (YamlException ex)
        {
            fault(PlaceOf(ex.Start), $"This is not YAML: {Sentence(ex.Message)}");
        }
        catch (Exception ex) when (ex is ArgumentException or InvalidOperationException or FormatException
            or IndexOutOfRangeException or OverflowException)
        {
            // The scanner answers a few malformed texts with its own index errors.
            fault(new Place(1, 1), $"This is not YAML: {Sentence(ex.Message)}");
        }

        return null;
    }

    private static string Sentence(string message)
    {
        string line = message.ReplaceLineEndings(" ").Trim();
        return line.EndsWith('.') ? line : line + ".";
    }

    private static Place PlaceOf(Mark mark) => new((int)Math.Max(1, mark.Line), (int)Math.Max(1, mark.Column));

    private SourceNode? ComposeDocument()
    {
        Next();
        if (_parser.Current is not StreamStart)
        {
            throw new StructureException(new Place(1, 1), "The file holds no YAML.");
        }

        Next();
        if (_parser.Current is not DocumentStart)
        {
            throw new StructureException(new Place(1, 1), "The file is empty; a sweep needs at least name, instances and kernels.");
        }

        Next();
        SourceNode root = ComposeNode(0);
        Next();
        if (_parser.Current is DocumentStart second)
        {
            _fault(PlaceOf(second.Start), "A second document begins here; a sweep file holds one.");
        }

        return root;
    }

    private void Next()
    {
        if (!_parser.MoveNext())
        {
            throw new StructureException(new Place(1, 1), "The file ends too early.");
        }

        if (_parser.Current is DocumentEnd)
        {
            Next();
        }
    }

    /// <summary>Composes the node whose first event is current, and leaves its last event current.</summary>
    private SourceNode ComposeNode(int depth)
    {
        ParsingEvent current = _parser.Current!;
        Place place = PlaceOf(current.Start);
        if (depth > DeepestNesting)
        {
            throw new StructureException(place, $"The file is nested deeper than {DeepestNesting} levels.");
        }

        CountNodes(1, place);
        if (current is AnchorAlias alias)
        {
            return Resolve(alias.Value.Value, place);
        }

        string? anchor = current is NodeEvent { Anchor.IsEmpty: false } named ? named.Anchor.Value : null;
        int before = _nodes;
        if (anchor is not null)
        {
            _anchors[anchor] = (null, 0);
        }

        SourceNode node = current switch
        {
            Scalar scalar => ComposeScalar(scalar, place),
            SequenceStart => ComposeList(place, depth),
            MappingStart => ComposeMap(place, depth),
            _ => throw new StructureException(place, "A value is needed here."),
        };
        if (anchor is not null)
        {
            _anchors[anchor] = (node, _nodes - before + 1);
        }

        return node;
    }

    private void CountNodes(int more, Place place)
    {
        _nodes += more;
        if (_nodes > MostNodes)
        {
            throw new StructureException(place, $"The file holds more than {MostNodes} values, its aliases counted out.");
        }
    }

    private SourceNode Resolve(string anchor, Place place)
    {
        if (!_anchors.TryGetValue(anchor, out (SourceNode? Node, int Size) target))
        {
            throw new StructureException(
                place, $"There is no anchor '&{anchor}' before this alias.{NearestName.Hint(anchor, _anchors.Keys)}");
        }

        CountNodes(target.Size, place);
        return target.Node ?? throw new StructureException(place, $"The anchor '&{anchor}' would hold itself.");
    }

    private SourceScalar ComposeScalar(Scalar scalar, Place place)
    {
        bool quoted = scalar.Style is not (ScalarStyle.Plain or ScalarStyle.Any);
        int before = scalar.Style is ScalarStyle.SingleQuoted or ScalarStyle.DoubleQuoted ? 1 : 0;
        long start = scalar.Start.Index + before;
        bool verbatim = start >= 0 && start + scalar.Value.Length <= _text.Length
            && _text.AsSpan((int)start, scalar.Value.Length).SequenceEqual(scalar.Value);
        return new SourceScalar(place, scalar.Value, quoted, verbatim ? before : null);
    }

    private SourceList ComposeList(Place place, int depth)
    {
        List<SourceNode> items = [];
        for (Next(); _parser.Current is not SequenceEnd; Next())
        {
            items.Add(ComposeNode(depth + 1));
        }

        return new SourceList(place, items);
    }

    private SourceMap ComposeMap(Place place, int depth)
    {
        List<(SourceScalar Key, SourceNode Value)> entries = [];
        Dictionary<string, int> lines = new(StringComparer.Ordinal);
        List<SourceMap> merged = [];
        for (Next(); _parser.Current is not MappingEnd; Next())
        {
            SourceNode key = ComposeNode(depth + 1);
            Next();
            SourceNode value = ComposeNode(depth + 1);
            if (key is not SourceScalar name)
            {
                _fault(key.Place, "A key must be a single word.");
            }
            else if (name is { Value: "<<", Quoted: false })
            {
                AddMerged(value, merged);
            }
            else if (!lines.TryAdd(name.Value, name.Place.Line))
            {
                _fault(name.Place, $"'{name.Value}' is given twice; it stands in line {lines[name.Value]} already.");
            }
            else
            {
                entries.Add((name, value));
            }
        }

        // A key of the map's own wins over one merged in, and an earlier merge over a later.
        foreach ((SourceScalar key, SourceNode value) in merged.SelectMany(m => m.Entries))
        {
            if (lines.TryAdd(key.Value, key.Place.Line))
            {
                entries.Add((key, value));
            }
        }

        return new SourceMap(place, entries);
    }

    private void AddMerged(SourceNode value, List<SourceMap> merged)
    {
        IReadOnlyList<SourceNode> sources = value is SourceList list ? list.Items : [value];
        foreach (SourceNode source in sources)
        {
            if (source is SourceMap map)
            {
                merged.Add(map);
            }
            else
            {
                _fault(source.Place, "'<<' merges maps; this is none.");
            }
        }
    }

    private sealed class StructureException(Place place, string message) : Exception(message)
    {
        public Place Place { get; } = place;
    }
}
