using Experiments.Results.Sweeps.Expressions;

namespace Experiments.Results.Sweeps.Reading;

/// <summary>Turns a file's tree into a frozen sweep, gathering every fault on the way.</summary>
internal sealed partial class SweepReader
{
    private const string FilesFamily = "files";

    private static readonly string[] TopKeys =
        ["name", "question", "seed", "instances", "kernels", "measure", "limits", "search", "samples"];

    private static readonly string[] MeasureKeys = ["rounds", "min_time", "max_noise", "reference", "sharing"];
    private static readonly string[] LimitKeys = ["trial_timeout", "memory", "retries"];
    private static readonly string[] SearchMethods = ["grid", "random", "sobol", "boundary"];

    private readonly string _displayName;
    private readonly string _baseFolder;
    private readonly IReadOnlyList<FilesSpec> _known;
    private readonly Catalog _catalog;
    private readonly FaultList _faults;
    private readonly HashSet<string> _words;
    private readonly ScalarReader _scalars;
    private readonly AxisReader _axes;

    /// <param name="of">The sweep whose inputs are known already, or null.</param>
    public SweepReader(string displayName, string baseFolder, Catalog catalog, FaultList faults, SweepSpec? of)
    {
        _known = of is null ? [] : [.. of.Instances.Select(b => b.Files).OfType<FilesSpec>()];
        _displayName = displayName;
        _baseFolder = baseFolder;
        _catalog = catalog;
        _faults = faults;
        _words = KnownWords(catalog);
        _scalars = new ScalarReader(faults, _words);
        _axes = new AxisReader(faults, _scalars);
    }

    /// <summary>Words an expression may use bare: kernels, families, precisions and every choice of every axis.</summary>
    public static HashSet<string> KnownWords(Catalog catalog) =>
    [
        .. catalog.Kernels.Select(k => k.Name), .. catalog.Families.Select(f => f.Name), "float32", "float64",
        .. catalog.Kernels.SelectMany(k => k.Axes).SelectMany(a => a.Choices),
        .. catalog.Families.SelectMany(f => f.Axes).SelectMany(a => a.Choices),
    ];

    /// <summary>Null after a fault.</summary>
    public SweepSpec? Read(SourceNode root)
    {
        if (root is not SourceMap map)
        {
            _faults.Add(root.Place, "A sweep file is a map of name, instances, kernels and more; this is a single value or a list.");
            return null;
        }

        Dictionary<string, SourceNode> keys = Keys(map, TopKeys, "a sweep file");
        string? name = null;
        if (Require(keys, "name", map.Place, "a sweep needs a name, which lists show") is SourceNode nameNode
            && _scalars.Scalar(nameNode, "name") is SourceScalar nameScalar)
        {
            name = nameScalar.Value.Trim();
            if (!SweepFile.IsName(name))
            {
                _faults.Add(nameNode.Place, "name needs 1 to 200 characters on one line.");
            }
        }

        string? question = keys.TryGetValue("question", out SourceNode? questionNode)
            ? _scalars.Scalar(questionNode, "question")?.Value.Trim() : null;
        if (question?.Contains('\0', StringComparison.Ordinal) == true)
        {
            _faults.Add(questionNode!.Place, "question holds a null character, which no text in the store can.");
        }

        long? seed = keys.TryGetValue("seed", out SourceNode? seedNode)
            ? _scalars.Whole(seedNode, "seed", long.MinValue, long.MaxValue) : 0;
        Measure measure = keys.TryGetValue("measure", out SourceNode? measureNode) ? ReadMeasure(measureNode) : new Measure();
        Limits limits = keys.TryGetValue("limits", out SourceNode? limitsNode) ? ReadLimits(limitsNode) : new Limits();
        SearchSpec search = ReadSearch(keys);

        SourceNode? kernelsNode = Require(keys, "kernels", map.Place, "a sweep needs at least one kernel");
        List<SourceMap> kernelMaps = Blocks(kernelsNode, "kernels");
        SourceNode? instancesNode = Require(keys, "instances", map.Place, "a sweep needs at least one block of instances");
        List<SourceMap> instanceMaps = Blocks(instancesNode, "instances");

        HashSet<string> usedByKernels = [.. kernelMaps.SelectMany(Identifiers)];
        List<InstanceBlock> instances = [];
        List<Dictionary<string, ValueKind>> scopes = [];
        foreach (SourceMap block in instanceMaps)
        {
            ReadInstances(block, usedByKernels, instances, scopes);
        }

        List<KernelBlock> kernels = [];
        foreach (SourceMap block in kernelMaps)
        {
            if (ReadKernels(block, scopes) is KernelBlock kernel)
            {
                kernels.Add(kernel);
            }
        }

        if (_faults.Any || name is null || seed is null)
        {
            return null;
        }

        string[] kernelNames = [.. kernels.SelectMany(b => b.Kernels).Select(k => k.Name)];
        string[] familyNames = [.. instances.Select(b => b.Family)];
        return new SweepSpec
        {
            Name = name,
            Question = string.IsNullOrEmpty(question) ? null : question,
            Seed = seed.Value,
            Measure = measure,
            Limits = limits,
            Search = search,
            Instances = instances,
            Kernels = kernels,
            PlugIns =
            [
                .. _catalog.PlugIns
                    .Select(p => p with { Kernels = [.. p.Kernels.Intersect(kernelNames)], Families = [.. p.Families.Intersect(familyNames)] })
                    .Where(p => p.Names.Any()).OrderBy(p => p.Name, StringComparer.Ordinal),
            ],
            DisplayName = _displayName,
        };
    }

    private Dictionary<string, SourceNode> Keys(SourceMap map, IReadOnlyList<string> known, string where)
    {
        Dictionary<string, SourceNode> keys = new(StringComparer.Ordinal);
        foreach ((SourceScalar key, SourceNode value) in map.Entries)
        {
            if (known.Contains(key.Value))
            {
                keys.Add(key.Value, value);
            }
            else
            {
                _faults.Add(
                    key.Place,
                    $"'{key.Value}' is no key of {where}.{NearestName.Hint(key.Value, known)} There are {string.Join(", ", known.Where(k => k != "samples"))}.");
            }
        }

        return keys;
    }

    private SourceNode? Require(Dictionary<string, SourceNode> keys, string key, Place place, string why)
    {
        if (keys.TryGetValue(key, out SourceNode? node))
        {
            return node;
        }

        _faults.Add(place, $"'{key}' is missing; {why}.");
        return null;
    }

    private List<SourceMap> Blocks(SourceNode? node, string key)
    {
        List<SourceMap> blocks = [];
        IReadOnlyList<SourceNode> items = node is SourceList list ? list.Items : node is null ? [] : [node];
        if (node is SourceList { Items.Count: 0 } or SourceScalar { IsNull: true })
        {
            _faults.Add(node.Place, $"{key} is empty; at least one block is needed.");
            return blocks;
        }

        foreach (SourceNode item in items)
        {
            if (item is SourceMap { Entries.Count: > 0 } block)
            {
                blocks.Add(block);
            }
            else
            {
                string example = key == "kernels" ? "kernel: exact" : "family: uniform";
                _faults.Add(item.Place, $"A block of {key} is a map, such as {{{example}, …}}.");
            }
        }

        return blocks;
    }

    private Measure ReadMeasure(SourceNode node)
    {
        Measure measure = new();
        if (node is not SourceMap map)
        {
            _faults.Add(node.Place, $"measure needs a map of {string.Join(", ", MeasureKeys)}.");
            return measure;
        }

        foreach ((string key, SourceNode value) in Keys(map, MeasureKeys, "measure"))
        {
            measure = key switch
            {
                "rounds" => measure with { Rounds = (int)(_scalars.Whole(value, key, 1, 100_000) ?? 1) },
                "min_time" => measure with { MinTime = _scalars.Duration(value, key) ?? measure.MinTime },
                "max_noise" => measure with { MaxNoise = _scalars.Share(value, key) ?? 0 },
                "sharing" => measure with { Sharing = _scalars.Flag(value, key) ?? false },
                _ => ReadReference(measure, value),
            };
        }

        return measure;
    }

    private Measure ReadReference(Measure measure, SourceNode node)
    {
        if (node is not SourceMap map)
        {
            return measure with
            {
                Reference = _scalars.Word(node, "reference", ["exact-float64", "none"], _ => "For a sample of rows: {rows: 4096}.") == "none"
                    ? ReferenceMode.None : ReferenceMode.ExactFloat64,
            };
        }

        if (map.Entries.Count == 0)
        {
            _faults.Add(node.Place, "reference needs exact-float64, none or a map such as {rows: 4096}.");
        }

        foreach ((string key, SourceNode value) in Keys(map, ["rows"], "reference"))
        {
            measure = measure with { ReferenceRows = (int?)_scalars.Whole(value, key, Measure.FewestReferenceRows, int.MaxValue) };
        }

        return measure;
    }

    private Limits ReadLimits(SourceNode node)
    {
        Limits limits = new();
        if (node is not SourceMap map)
        {
            _faults.Add(node.Place, $"limits needs a map of {string.Join(", ", LimitKeys)}.");
            return limits;
        }

        foreach ((string key, SourceNode value) in Keys(map, LimitKeys, "limits"))
        {
            switch (key)
            {
                case "trial_timeout":
                    TimeSpan? timeout = _scalars.Duration(value, key);
                    if (timeout == TimeSpan.Zero)
                    {
                        _faults.Add(value.Place, "trial_timeout is 0 and would stop every trial; give a time such as 2min.");
                    }

                    limits = limits with { TrialTimeout = timeout ?? limits.TrialTimeout };
                    break;
                case "memory":
                    limits = limits with { MemoryBytes = _scalars.Size(value, key) };
                    break;
                default:
                    limits = limits with { Retries = (int)(_scalars.Whole(value, key, 0, 100) ?? 0) };
                    break;
            }
        }

        return limits;
    }

    private SearchSpec ReadSearch(Dictionary<string, SourceNode> keys)
    {
        keys.TryGetValue("samples", out SourceNode? samplesNode);
        if (!keys.TryGetValue("search", out SourceNode? node))
        {
            if (samplesNode is not null)
            {
                _faults.Add(samplesNode.Place, "samples needs search: random or search: sobol; a grid runs every instance.");
            }

            return SearchSpec.Grid;
        }

        // Written either as `search: random` beside `samples: 100`, or as `search: {method: random, samples: 100}`.
        SourceNode methodNode = node;
        if (node is SourceMap map)
        {
            Dictionary<string, SourceNode> inner = Keys(map, ["method", "samples"], "search");
            samplesNode = inner.GetValueOrDefault("samples", samplesNode!);
            if (Require(inner, "method", map.Place, "search needs one: grid, random or sobol") is not SourceNode given)
            {
                return SearchSpec.Grid;
            }

            methodNode = given;
        }

        string? method = _scalars.Word(methodNode, "search", SearchMethods);
        if (method == "boundary")
        {
            _faults.Add(methodNode.Place, "search: boundary cannot be run yet; take grid, random or sobol over the bound instead.");
        }

        if (method is "grid" && samplesNode is not null)
        {
            _faults.Add(samplesNode.Place, "samples needs search: random or search: sobol; a grid runs every instance.");
        }

        if (method is not ("random" or "sobol"))
        {
            return SearchSpec.Grid;
        }

        if (samplesNode is null)
        {
            _faults.Add(methodNode.Place, $"search: {method} needs samples, the number of instances to draw, such as samples: 100.");
            return SearchSpec.Grid;
        }

        long? samples = _scalars.Whole(samplesNode, "samples", 1, int.MaxValue);
        return new SearchSpec(method == "random" ? SearchMethod.Random : SearchMethod.Sobol, samples ?? 1, samplesNode.Place);
    }

    /// <summary>Everything in a block that could be a name an expression refers to.</summary>
    private static IEnumerable<string> Identifiers(SourceNode node)
    {
        switch (node)
        {
            case SourceScalar scalar:
                return System.Text.RegularExpressions.Regex.Matches(scalar.Value, "[A-Za-z_][A-Za-z0-9_]*").Select(m => m.Value);
            case SourceList list:
                return list.Items.SelectMany(Identifiers);
            case SourceMap map:
                return map.Entries.SelectMany(e => Identifiers(e.Value));
            default:
                return [];
        }
    }
}
