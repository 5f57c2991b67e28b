using System.IO.Compression;
using System.Security.Cryptography;
using Experiments.Results.Migrations;
using Experiments.Results.Store;

namespace Experiments.Results.Archives;

/// <summary>An archive of one sweep: a zip file that holds the sweep's rows, a file a table, and a manifest with their hashes.</summary>
/// <remarks>
/// Files are found by their known names alone, and nothing is ever unpacked onto a disk, so a path in an archive means nothing. A zip
/// and not a tar: a tar asks for each file's size before its first byte, which a stream of rows does not know. Text and
/// not binary rows: the format of COPY's text outlives servers' versions and processors, and a person can read it with <c>unzip -p</c>.
/// The hashes find what was damaged, not who forged it: import archives from people you trust.
/// </remarks>
public sealed class SweepArchive : IDisposable
{
    internal const string ManifestName = "manifest.json";

    /// <summary>Holds the manifest's SHA-256: the parts' hashes lie in the manifest, and it vouches for those.</summary>
    internal const string ManifestHashName = "manifest.sha256";

    // A manifest of ours has some 5 kB.
    private const int MostManifestBytes = 1 << 20;

    private readonly ZipArchive _zip;
    private readonly string _name;

    private SweepArchive(ZipArchive zip, string name, ArchiveManifest manifest)
    {
        _zip = zip;
        _name = name;
        Manifest = manifest;
    }

    public ArchiveManifest Manifest { get; }

    /// <summary>The number of this build's newest migration.</summary>
    public static int Schema => int.Parse(Migrator.Scripts[^1].AsSpan(0, 4), System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>Opens an archive and checks all of it: every part's length, rows and hash.</summary>
    /// <param name="file">Seekable; the archive's from now on.</param>
    /// <param name="name">What messages call it.</param>
    /// <exception cref="InvalidDataException">It is not an archive, is damaged or cut short, or is of a newer schema; one line says which.</exception>
    public static async Task<SweepArchive> OpenAsync(Stream file, string name, CancellationToken cancellation)
    {
        ZipArchive? zip = null;
        try
        {
            zip = new ZipArchive(file, ZipArchiveMode.Read);
            SweepArchive archive = new(zip, name, await ReadManifestAsync(zip, cancellation));
            foreach (ArchivePart part in ArchivePart.All)
            {
                await using ArchivePartReader rows = archive.Open(part);
                await rows.CopyToAsync(Stream.Null, cancellation);
            }

            foreach (StoredFile carried in archive.Manifest.Files)
            {
                await using ArchivePartReader bytes = archive.Open(carried);
                await bytes.CopyToAsync(Stream.Null, cancellation);
            }

            return archive;
        }
        catch (ArchiveFault fault)
        {
            Close();
            throw Refuse(name, fault);
        }
        catch (Exception fault) when (fault is InvalidDataException or IOException or NotSupportedException or ArgumentException)
        {
            Close();
            throw Refuse(name, new ArchiveFault(
                (zip is null ? "is not an archive of a sweep, or is cut short" : "is damaged") + $" ({fault.Message.TrimEnd('.')})", fault));
        }
        catch
        {
            Close();
            throw;
        }

        void Close()
        {
            zip?.Dispose();
            file.Dispose();
        }
    }

    public void Dispose() => _zip.Dispose();

    /// <summary>A part's rows. Whoever reads them to their end has their hash checked again: the file may have changed since.</summary>
    internal ArchivePartReader Open(ArchivePart part)
    {
        ArchivedPart told = Told(part);
        ZipArchiveEntry entry = _zip.GetEntry(part.FileName) ?? throw new ArchiveFault($"lacks its part {part.FileName}");
        return new ArchivePartReader(entry.Open(), told.Table, told.Rows, told.Bytes, told.Sha256);
    }

    /// <summary>The bytes of a file that the sweep carries, checked as a part's are.</summary>
    internal ArchivePartReader Open(StoredFile file)
    {
        ZipArchiveEntry entry = _zip.GetEntry(NameOf(file)) ?? throw new ArchiveFault($"lacks {NameOf(file)}, which its manifest names");
        return new ArchivePartReader(entry.Open(), NameOf(file), null, file.Bytes, file.Sha256);
    }

    internal static string NameOf(StoredFile file) => $"files/{file.Sha256}";

    internal ArchivedPart Told(ArchivePart part) => Manifest.Parts.SingleOrDefault(p => p.Table == part.Table)
        ?? throw new ArchiveFault($"does not describe its part {part.FileName}");

    /// <summary>A fault as a sentence with the file for its subject.</summary>
    internal InvalidDataException Refuse(ArchiveFault fault) => Refuse(_name, fault);

    private static InvalidDataException Refuse(string name, ArchiveFault fault) => new($"'{name}' {fault.Message}. Nothing was imported.", fault);

    private static async Task<ArchiveManifest> ReadManifestAsync(ZipArchive zip, CancellationToken cancellation)
    {
        byte[] manifest = await ReadAsync(zip, ManifestName, cancellation);
        byte[] hash = await ReadAsync(zip, ManifestHashName, cancellation);
        if (!hash.AsSpan().SequenceEqual(HashLine(manifest)))
        {
            throw new ArchiveFault($"is damaged: {ManifestName} does not have the SHA-256 that {ManifestHashName} names");
        }

        ArchiveManifest told = ArchiveManifest.Parse(manifest);
        if (told.Schema > Schema)
        {
            throw new ArchiveFault(
                $"was taken from a store of schema {told.Schema} by build {told.Build}, and this build knows schema {Schema}. Import it with a build "
                + "as new as that one");
        }

        foreach (ArchivePart part in ArchivePart.All)
        {
            if (told.Parts.Count(p => p.Table == part.Table) != 1)
            {
                throw new ArchiveFault($"has a manifest that does not describe {part.FileName} once");
            }
        }

        return told;
    }

    /// <summary>As <c>sha256sum</c> prints it.</summary>
    internal static byte[] HashLine(byte[] manifest) =>
        System.Text.Encoding.ASCII.GetBytes($"{Convert.ToHexStringLower(SHA256.HashData(manifest))}  {ManifestName}\n");

    private static async Task<byte[]> ReadAsync(ZipArchive zip, string name, CancellationToken cancellation)
    {
        ZipArchiveEntry entry = zip.GetEntry(name) ?? throw new ArchiveFault($"is not an archive of a sweep: it has no {name}");
        if (entry.Length > MostManifestBytes)
        {
            throw new ArchiveFault($"is not an archive of a sweep: its {name} has {entry.Length} bytes");
        }

        await using Stream stream = entry.Open();
        using MemoryStream bytes = new();
        await stream.CopyToAsync(bytes, cancellation);
        return bytes.ToArray();
    }
}
