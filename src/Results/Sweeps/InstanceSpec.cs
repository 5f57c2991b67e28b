namespace Experiments.Results.Sweeps;

/// <summary>What names one instance: the drawing of A1, A2, A3, E, X, Y that all its trials share.</summary>
/// <param name="Family">uniform, gaussian, corner, planted, files, …</param>
/// <param name="N">Tokens.</param>
/// <param name="D">Head dimension.</param>
/// <param name="Bound">B, or null for a family without one.</param>
/// <param name="Repeat">0-based: which of the cell's repeats.</param>
/// <param name="Seed">The sweep's seed.</param>
/// <param name="Settings">The family's own axes; values are long, double, string or bool.</param>
/// <param name="Parameters">The sweep file's own names (kappa), which other axes were computed from; part of the row, not
/// of the identity.</param>
public sealed record InstanceSpec(
    string Family,
    int N,
    int D,
    double? Bound,
    int Repeat,
    long Seed,
    IReadOnlyDictionary<string, object> Settings,
    IReadOnlyDictionary<string, object> Parameters)
{
    private Guid? _key;

    // A copy made by `with` is another instance: it works its key out anew.
    private InstanceSpec(InstanceSpec original) =>
        (Family, N, D, Bound, Repeat, Seed, Settings, Parameters) = original;

    /// <summary>Heads times batch: how many independent problems of this n and d a call computes.</summary>
    public long Parts => Whole("heads") * Whole("batch");

    /// <summary>The files that it is made of, with what they held when the sweep was frozen; none of a drawn one.</summary>
    public IEnumerable<InstanceFile> Files => !Settings.TryGetValue("folder", out object? folder) ? [] : Settings
        .Where(s => s.Key.StartsWith(InstanceFile.ContentPrefix, StringComparison.Ordinal))
        .Select(s => new InstanceFile(
            Path.Combine((string)folder, FileOf((string)Settings[s.Key[InstanceFile.ContentPrefix.Length..]])), (string)s.Value))
        .DistinctBy(f => f.Content);

    /// <summary>128 bits of a hash of the canonical text: the same instance has the same key in any sweep, anywhere.</summary>
    public Guid Key => _key ??= Identity.KeyOf(this);

    // What an axis names is a file; what a matrix names is a part of one.
    private string FileOf(string named) => Family == "files" ? named.Split('[')[0] + ".npy" : named;

    private long Whole(string axis) => Settings.TryGetValue(axis, out object? value) && value is long whole ? whole : 1;
}

/// <param name="Path">Where it lay where the sweep was submitted.</param>
/// <param name="Content">The first 128 bits of its SHA-256, as lower-case hex.</param>
public sealed record InstanceFile(string Path, string Content)
{
    /// <summary>Of the settings that hold contents; the name of the matrix or axis follows.</summary>
    internal const string ContentPrefix = "content_";
}
