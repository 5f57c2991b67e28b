using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Results.Archives;

/// <summary>A part as the manifest describes it.</summary>
/// <param name="Columns">In the order of a row's fields.</param>
/// <param name="Bytes">Uncompressed.</param>
/// <param name="Sha256">Of those bytes, 64 lower-case hexadecimal digits.</param>
public sealed record ArchivedPart(string Table, IReadOnlyList<string> Columns, long Rows, long Bytes, string Sha256);

/// <summary>What an archive says of itself.</summary>
/// <param name="Schema">The number of the newest migration of the store that it was taken from.</param>
/// <param name="Build">Of the program that wrote it.</param>
/// <param name="SweepId">Its number in that store.</param>
/// <param name="Submission">The same in every store: what a sweep is known by.</param>
/// <param name="State">When it was taken: running, done or cancelled.</param>
/// <param name="Stored">How many of its trials have an outcome.</param>
/// <param name="TakenAt">Of the snapshot, by the server's clock.</param>
public sealed record ArchiveManifest(
    int Schema, string Build, long SweepId, string Name, Guid Submission, string State, long Trials, long Stored,
    DateTimeOffset TakenAt, IReadOnlyList<ArchivedPart> Parts)
{
    /// <summary>The files that the sweep carries, of which the archive has the bytes. None where they were left out, and in archives of before there were any.</summary>
    public IReadOnlyList<StoredFile> Files { get; init; } = [];

    /// <summary>What tells an archive of ours from any other zip file.</summary>
    internal const string Format = "experiments sweep archive";

    /// <summary>Of the layout: the files' names, the manifest's members, what leads a row.</summary>
    internal const int Version = 1;

    internal byte[] ToJson()
    {
        JsonObject json = new()
        {
            ["format"] = Format,
            ["version"] = Version,
            ["schema"] = Schema,
            ["build"] = Build,
            ["sweep_id"] = SweepId,
            ["name"] = Name,
            ["submission"] = Submission.ToString("D"),
            ["state"] = State,
            ["trials"] = Trials,
            ["stored"] = Stored,
            ["taken_at"] = TakenAt.UtcDateTime.ToString("O", CultureInfo.InvariantCulture),
            ["parts"] = new JsonArray([.. Parts.Select(p => new JsonObject
            {
                ["table"] = p.Table,
                ["columns"] = new JsonArray([.. p.Columns.Select(c => JsonValue.Create(c))]),
                ["rows"] = p.Rows,
                ["bytes"] = p.Bytes,
                ["sha256"] = p.Sha256,
            })]),
            ["files"] = new JsonArray([.. Files.Select(f => new JsonObject { ["sha256"] = f.Sha256, ["bytes"] = f.Bytes })]),
        };
        using MemoryStream buffer = new();
        using (Utf8JsonWriter writer = new(buffer, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            json.WriteTo(writer);
        }

        return buffer.ToArray();
    }

    /// <exception cref="ArchiveFault">It is none of ours, or of a newer layout. The message is a sentence without a subject.</exception>
    internal static ArchiveManifest Parse(byte[] bytes)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(bytes);
            JsonElement json = document.RootElement;
            if (json.GetProperty("format").GetString() != Format)
            {
                throw new ArchiveFault("is not an archive of a sweep");
            }

            int version = json.GetProperty("version").GetInt32();
            if (version != Version)
            {
                throw new ArchiveFault(
                    $"has layout {version} and was written by build {json.GetProperty("build").GetString()}; this build knows layout {Version}. Import it "
                    + "with a build as new as that one");
            }

            return new ArchiveManifest(
                json.GetProperty("schema").GetInt32(), Text(json, "build"), json.GetProperty("sweep_id").GetInt64(), Text(json, "name"),
                json.GetProperty("submission").GetGuid(), Text(json, "state"), json.GetProperty("trials").GetInt64(),
                json.GetProperty("stored").GetInt64(), json.GetProperty("taken_at").GetDateTimeOffset(),
                [.. json.GetProperty("parts").EnumerateArray().Select(p => new ArchivedPart(
                    Text(p, "table"), [.. p.GetProperty("columns").EnumerateArray().Select(c => c.GetString() ?? "")],
                    p.GetProperty("rows").GetInt64(), p.GetProperty("bytes").GetInt64(), Text(p, "sha256")))])
            {
                Files = json.TryGetProperty("files", out JsonElement files) ? [.. files.EnumerateArray().Select(FileOf)] : [],
            };
        }
        catch (Exception fault) when (fault is JsonException or KeyNotFoundException or FormatException or InvalidOperationException)
        {
            throw new ArchiveFault("has a manifest that cannot be read", fault);
        }
    }

    private static StoredFile FileOf(JsonElement json)
    {
        StoredFile file = new(Text(json, "sha256"), json.GetProperty("bytes").GetInt64());
        return file.Sha256.Length == 64 && file.Sha256.All(char.IsAsciiHexDigitLower) && file.Bytes is > 0 and <= CarriedFile.MostBytes
            ? file
            : throw new ArchiveFault("has a manifest that names a file which can be none");
    }

    private static string Text(JsonElement json, string member) =>
        json.GetProperty(member).GetString() ?? throw new ArchiveFault($"has a manifest without {member}");
}
