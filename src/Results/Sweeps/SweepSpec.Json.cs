using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Experiments.Results.Sweeps.Expressions;

namespace Experiments.Results.Sweeps;

public sealed partial class SweepSpec
{
    private const string Format = "sweep/1";
    private string? _json;
    private Guid? _hash;

    /// <summary>Hash of the canonical JSON: the same sweep, however its file is laid out, has the same hash.</summary>
    public Guid Hash => _hash ??= new Guid(SHA256.HashData(Encoding.UTF8.GetBytes(ToJson())).AsSpan(0, 16), bigEndian: true);

    /// <summary>The canonical JSON, which <see cref="FromJson"/> reads back to the same sweep. The order of axes and of kernel
    /// blocks is kept, since it numbers the trials; nothing else of the file's layout is.</summary>
    public string ToJson() => _json ??= Write();

    /// <exception cref="FormatException">The text is not what <see cref="ToJson"/> writes.</exception>
    public static SweepSpec FromJson(string json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            return Read(document.RootElement);
        }
        catch (Exception ex) when (ex is JsonException or KeyNotFoundException or InvalidOperationException or ArgumentException
            or ExpressionException or FormatException or OverflowException)
        {
            throw new FormatException($"This is not a sweep as {Format} stores it: {ex.Message}", ex);
        }
    }

    private string Write()
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream))
        {
            json.WriteStartObject();
            json.WriteString("format", Format);
            json.WriteString("name", Name);
            if (Question is not null)
            {
                json.WriteString("question", Question);
            }

            json.WriteNumber("seed", Seed);
            if (PlugIns.Count > 0)
            {
                WritePlugIns(json);
            }

            if (Search.Method != SearchMethod.Grid)
            {
                json.WriteStartObject("search");
                json.WriteString("method", Search.Method == SearchMethod.Random ? "random" : "sobol");
                json.WriteNumber("samples", Search.Samples);
                json.WriteEndObject();
            }

            WriteList(json, "instances", Instances, b => WriteInstances(json, b));
            WriteList(json, "kernels", Kernels, b => WriteKernels(json, b));
            json.WriteStartObject("measure");
            json.WriteNumber("rounds", Measure.Rounds);
            json.WriteString("min_time", Measure.MinTime.ToString("c"));
            WriteValue(json, "max_noise", Measure.MaxNoise);
            if (Measure is { Reference: ReferenceMode.ExactFloat64, ReferenceRows: int rows })
            {
                json.WriteStartObject("reference");
                json.WriteNumber("rows", rows);
                json.WriteEndObject();
            }
            else
            {
                json.WriteString("reference", Measure.Reference == ReferenceMode.None ? "none" : "exact-float64");
            }

            json.WriteBoolean("sharing", Measure.Sharing);
            json.WriteEndObject();
            json.WriteStartObject("limits");
            json.WriteString("trial_timeout", Limits.TrialTimeout.ToString("c"));
            if (Limits.MemoryBytes is long memory)
            {
                json.WriteNumber("memory_bytes", memory);
            }

            json.WriteNumber("retries", Limits.Retries);
            json.WriteEndObject();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }

    // What the store compares with what a node offers, name by name: see grant-shards.sql.
    private void WritePlugIns(Utf8JsonWriter json) => WriteList(json, "plugins", PlugIns, plugIn =>
    {
        json.WriteStartObject();
        json.WriteString("name", plugIn.Name);
        json.WriteString("version", plugIn.Version);
        json.WriteString("sha256", plugIn.Sha256);
        WriteList(json, "kernels", plugIn.Kernels, json.WriteStringValue);
        WriteList(json, "families", plugIn.Families, json.WriteStringValue);
        json.WriteEndObject();
    });

    private static void WriteList<T>(Utf8JsonWriter json, string name, IEnumerable<T> items, Action<T> write)
    {
        json.WriteStartArray(name);
        foreach (T item in items)
        {
            write(item);
        }

        json.WriteEndArray();
    }

    private static void WriteInstances(Utf8JsonWriter json, InstanceBlock block)
    {
        json.WriteStartObject();
        json.WriteString("family", block.Family);
        WriteAxes(json, block.Dimensions, block.Derived, block.Where);
        WriteValues(json, "constants", block.Constants);
        WriteApplies(json, block.Applies);
        json.WriteNumber("repeats", block.Repeats);
        if (block.Files is FilesSpec files)
        {
            json.WriteStartObject("files");
            json.WriteString("folder", files.Folder);
            WriteList(json, "matrices", files.Matrices, slice =>
            {
                json.WriteStartObject();
                json.WriteString("matrix", slice.Matrix);
                json.WriteString("file", slice.File);
                if (slice.Bounds is not null)
                {
                    WriteList(json, "bounds", slice.Bounds, b => json.WriteStringValue(b?.Canonical));
                }

                json.WriteEndObject();
            });
            json.WriteStartObject("contents");
            foreach ((string name, FileContent content) in files.Contents)
            {
                json.WriteStartObject(name);
                json.WriteNumber("rows", content.Rows);
                json.WriteNumber("columns", content.Columns);
                json.WriteString("hash", content.Hash);
                json.WriteEndObject();
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    private static void WriteKernels(Utf8JsonWriter json, KernelBlock block)
    {
        json.WriteStartObject();
        WriteList(json, "kernels", block.Kernels, entry =>
        {
            json.WriteStartObject();
            json.WriteString("name", entry.Name);
            WriteList(json, "axes", entry.Own.Order(StringComparer.Ordinal), json.WriteStringValue);
            WriteValues(json, "defaults", entry.Defaults);
            WriteApplies(json, entry.Applies);
            json.WriteEndObject();
        });
        WriteAxes(json, block.Dimensions, block.Derived, block.Where);
        json.WriteEndObject();
    }

    private static void WriteAxes(
        Utf8JsonWriter json, IReadOnlyList<DimensionSpec> dimensions, IReadOnlyList<DerivedSpec> derived, IReadOnlyList<WhereSpec> where)
    {
        WriteList(json, "dimensions", dimensions, dimension =>
        {
            json.WriteStartArray();
            foreach (AxisSpec axis in dimension.Axes)
            {
                WriteType(json, axis.Type);
                WriteAxisValues(json, axis.Values);
                json.WriteEndObject();
            }

            json.WriteEndArray();
        });
        WriteList(json, "derived", derived, axis =>
        {
            WriteType(json, axis.Type);
            json.WriteString("expression", axis.Expression.Canonical);
            json.WriteEndObject();
        });
        WriteList(json, "where", where, w => json.WriteStringValue(w.Expression.Canonical));
    }

    private static void WriteType(Utf8JsonWriter json, AxisType type)
    {
        json.WriteStartObject();
        json.WriteString("name", type.Name);
        json.WriteString("kind", type.Kind.ToString());
        if (type.Parameter)
        {
            json.WriteBoolean("parameter", true);
        }

        if (double.IsFinite(type.Minimum))
        {
            WriteValue(json, "minimum", type.Minimum);
        }

        if (double.IsFinite(type.Maximum))
        {
            WriteValue(json, "maximum", type.Maximum);
        }

        if (type.Word is not null)
        {
            json.WriteString("word", type.Word);
        }
    }

    private static void WriteAxisValues(Utf8JsonWriter json, AxisValues values)
    {
        if (values.Items is not null)
        {
            json.WriteStartArray("values");
            foreach (object value in values.Items)
            {
                WriteValue(json, null, value);
            }

            json.WriteEndArray();
            return;
        }

        json.WriteString("form", values.Form.ToString());
        WriteValue(json, "first", values.First);
        WriteValue(json, "second", values.Second);
        json.WriteNumber("count", values.Count);
    }

    private static void WriteValues(Utf8JsonWriter json, string name, IReadOnlyDictionary<string, object> values)
    {
        json.WriteStartObject(name);
        foreach ((string key, object value) in values.OrderBy(v => v.Key, StringComparer.Ordinal))
        {
            WriteValue(json, key, value);
        }

        json.WriteEndObject();
    }

    private static void WriteApplies(Utf8JsonWriter json, IReadOnlyDictionary<string, AppliesSpec> applies)
    {
        json.WriteStartObject("applies");
        foreach ((string axis, AppliesSpec condition) in applies.OrderBy(a => a.Key, StringComparer.Ordinal))
        {
            json.WriteStartObject(axis);
            json.WriteString("on", condition.On);
            WriteList(json, "words", condition.Words, json.WriteStringValue);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    /// <summary>Whole numbers without a point are long, those with one are double: the kinds survive the round trip.</summary>
    private static void WriteValue(Utf8JsonWriter json, string? name, object value)
    {
        if (name is not null)
        {
            json.WritePropertyName(name);
        }

        switch (value)
        {
            case string word:
                json.WriteStringValue(word);
                break;
            case bool flag:
                json.WriteBooleanValue(flag);
                break;
            case double real:
                string text = Identity.Text(real);
                json.WriteRawValue(text.AsSpan().IndexOfAny('.', 'E') < 0 ? text + ".0" : text);
                break;
            default:
                json.WriteNumberValue((long)value);
                break;
        }
    }

    private static SweepSpec Read(JsonElement root)
    {
        if (root.GetProperty("format").GetString() is not Format and string other)
        {
            throw new FormatException($"its format is '{other}', from another version of this program.");
        }

        JsonElement measure = root.GetProperty("measure");
        JsonElement limits = root.GetProperty("limits");
        JsonElement reference = measure.GetProperty("reference");
        string name = Text(root, "name");
        return new SweepSpec
        {
            Name = name,
            DisplayName = name,
            Question = root.TryGetProperty("question", out JsonElement question) ? question.GetString() : null,
            Seed = root.GetProperty("seed").GetInt64(),
            PlugIns = root.TryGetProperty("plugins", out JsonElement plugIns) ? ReadPlugIns(plugIns) : [],
            Search = root.TryGetProperty("search", out JsonElement search)
                ? new SearchSpec(
                    Text(search, "method") == "sobol" ? SearchMethod.Sobol : SearchMethod.Random,
                    search.GetProperty("samples").GetInt64(), default)
                : SearchSpec.Grid,
            Instances = [.. root.GetProperty("instances").EnumerateArray().Select(ReadInstances)],
            Kernels = [.. root.GetProperty("kernels").EnumerateArray().Select(ReadKernels)],
            Measure = new Measure
            {
                Rounds = measure.GetProperty("rounds").GetInt32(),
                MinTime = Time(measure, "min_time"),
                MaxNoise = measure.GetProperty("max_noise").GetDouble(),
                Reference = reference.ValueKind == JsonValueKind.String && reference.GetString() == "none"
                    ? ReferenceMode.None : ReferenceMode.ExactFloat64,
                ReferenceRows = reference.ValueKind == JsonValueKind.Object ? reference.GetProperty("rows").GetInt32() : null,
                Sharing = measure.GetProperty("sharing").GetBoolean(),
            },
            Limits = new Limits
            {
                TrialTimeout = Time(limits, "trial_timeout"),
                MemoryBytes = limits.TryGetProperty("memory_bytes", out JsonElement memory) ? memory.GetInt64() : null,
                Retries = limits.GetProperty("retries").GetInt32(),
            },
        };
    }

    /// <summary>Plug-ins as a sweep needs them, and as a node offers them in its facts.</summary>
    internal static PlugInIdentity[] ReadPlugIns(JsonElement json) =>
        [.. json.EnumerateArray().Select(p => new PlugInIdentity(
            Text(p, "name"), Text(p, "version"), Text(p, "sha256"), Words(p, "kernels"), Words(p, "families")))];

    private static string[] Words(JsonElement json, string name) =>
        [.. json.GetProperty(name).EnumerateArray().Select(w => w.GetString() ?? throw new FormatException($"'{name}' holds a null."))];

    private static string Text(JsonElement json, string name) =>
        json.GetProperty(name).GetString() ?? throw new FormatException($"'{name}' is null.");

    private static TimeSpan Time(JsonElement json, string name) =>
        TimeSpan.ParseExact(Text(json, name), "c", System.Globalization.CultureInfo.InvariantCulture);

    private static InstanceBlock ReadInstances(JsonElement json) => new(
        Text(json, "family"), ReadDimensions(json), ReadDerived(json), ReadValues(json.GetProperty("constants")),
        ReadApplies(json), ReadWhere(json), json.GetProperty("repeats").GetInt64(),
        json.TryGetProperty("files", out JsonElement files) ? ReadFiles(files) : null, default);

    private static FilesSpec ReadFiles(JsonElement json)
    {
        SortedDictionary<string, FileContent> contents = new(StringComparer.Ordinal);
        foreach (JsonProperty file in json.GetProperty("contents").EnumerateObject())
        {
            contents.Add(file.Name, new FileContent(
                file.Value.GetProperty("rows").GetInt64(), file.Value.GetProperty("columns").GetInt64(), Text(file.Value, "hash")));
        }

        return new FilesSpec(
            Text(json, "folder"),
            [.. json.GetProperty("matrices").EnumerateArray().Select(m => new SliceSpec(
                Text(m, "matrix"), Text(m, "file"),
                m.TryGetProperty("bounds", out JsonElement bounds)
                    ? [.. bounds.EnumerateArray().Select(b => b.GetString() is string e ? ExpressionParser.ParseStored(e) : null)]
                    : null,
                default))],
            contents);
    }

    private static KernelBlock ReadKernels(JsonElement json) => new(
        [.. json.GetProperty("kernels").EnumerateArray().Select(k => new KernelEntry(
            Text(k, "name"),
            k.GetProperty("axes").EnumerateArray().Select(a => a.GetString()!).ToHashSet(StringComparer.Ordinal),
            ReadValues(k.GetProperty("defaults")), ReadApplies(k)))],
        ReadDimensions(json), ReadDerived(json), ReadWhere(json), default);

    private static DimensionSpec[] ReadDimensions(JsonElement json) =>
        [.. json.GetProperty("dimensions").EnumerateArray().Select(d => new DimensionSpec(
            [.. d.EnumerateArray().Select(a => new AxisSpec(ReadType(a), ReadAxisValues(a), default))]))];

    private static DerivedSpec[] ReadDerived(JsonElement json) =>
        [.. json.GetProperty("derived").EnumerateArray().Select(d =>
            new DerivedSpec(ReadType(d), ExpressionParser.ParseStored(Text(d, "expression")), default))];

    private static WhereSpec[] ReadWhere(JsonElement json) =>
        [.. json.GetProperty("where").EnumerateArray().Select(w => new WhereSpec(ExpressionParser.ParseStored(w.GetString()!), default))];

    private static AxisType ReadType(JsonElement json) => new(
        Text(json, "name"), Enum.Parse<AxisKind>(Text(json, "kind")),
        json.TryGetProperty("minimum", out JsonElement minimum) ? minimum.GetDouble() : double.NegativeInfinity,
        json.TryGetProperty("maximum", out JsonElement maximum) ? maximum.GetDouble() : double.PositiveInfinity,
        json.TryGetProperty("parameter", out _),
        json.TryGetProperty("word", out JsonElement word) ? word.GetString() : null);

    private static AxisValues ReadAxisValues(JsonElement json) => json.TryGetProperty("values", out JsonElement values)
        ? AxisValues.Of([.. values.EnumerateArray().Select(ReadValue)])
        : new AxisValues(
            Enum.Parse<AxisForm>(Text(json, "form")), json.GetProperty("first").GetDouble(),
            json.GetProperty("second").GetDouble(), json.GetProperty("count").GetInt64(), null);

    private static SortedDictionary<string, object> ReadValues(JsonElement json)
    {
        SortedDictionary<string, object> values = new(StringComparer.Ordinal);
        foreach (JsonProperty property in json.EnumerateObject())
        {
            values.Add(property.Name, ReadValue(property.Value));
        }

        return values;
    }

    private static Dictionary<string, AppliesSpec> ReadApplies(JsonElement json) =>
        json.GetProperty("applies").EnumerateObject().ToDictionary(
            a => a.Name,
            a => new AppliesSpec(Text(a.Value, "on"), [.. a.Value.GetProperty("words").EnumerateArray().Select(w => w.GetString()!)]),
            StringComparer.Ordinal);

    private static object ReadValue(JsonElement json) => json.ValueKind switch
    {
        JsonValueKind.String => json.GetString()!,
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => json.GetRawText().AsSpan().IndexOfAny('.', 'e', 'E') < 0 ? (object)json.GetInt64() : json.GetDouble(),
    };
}
