using System.Text;
using Experiments.Results.Sweeps.Reading;

namespace Experiments.Results.Sweeps;

/// <summary>Reads a sweep file (YAML; JSON is YAML too) and freezes it. Every fault is found before any is thrown.</summary>
public static class SweepFile
{
    /// <summary>A sweep file is a page; what is longer than this is another kind of file.</summary>
    private const long MostBytes = 16 << 20;

    /// <summary>Combinations looked at before a sweep runs; a larger sweep's are looked at as it is counted.</summary>
    private const long CheckedCombinations = 50_000;

    /// <summary>Whether a sweep may be called that: 1 to 200 characters on one line.</summary>
    public static bool IsName(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return name.Length is > 0 and <= 200 && !name.Any(char.IsControl);
    }

    /// <summary>A size as sweep files have it (8GiB, 512MiB, 8GB, bytes); null for what is none.</summary>
    public static long? SizeOf(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return ScalarReader.SizeOf(text);
    }

    /// <summary>Reads and checks the file at <paramref name="path"/>.</summary>
    /// <exception cref="SweepFileException">The file cannot be read, or has faults: all of them.</exception>
    public static SweepSpec Read(string path, Catalog catalog)
    {
        string text = ReadText(path);
        return Parse(text, path, Path.GetDirectoryName(Path.GetFullPath(path)) ?? ".", catalog);
    }

    /// <summary>Checks a sweep file's text.</summary>
    /// <param name="displayName">What faults call the file.</param>
    /// <param name="baseFolder">What a relative folder of inputs is relative to.</param>
    /// <exception cref="SweepFileException">The text has faults: all of them.</exception>
    public static SweepSpec Parse(string text, string displayName, string baseFolder, Catalog catalog) =>
        Parse(text, displayName, baseFolder, catalog, null);

    /// <param name="of">The sweep of which this is the file, perhaps changed: its inputs are what they were, wherever the text is read and whatever
    /// became of them. Null for a file of its own.</param>
    /// <exception cref="SweepFileException">The text has faults: all of them.</exception>
    public static SweepSpec Parse(string text, string displayName, string baseFolder, Catalog catalog, SweepSpec? of)
    {
        FaultList faults = new();
        SourceNode? root = SourceComposer.Compose(text.TrimStart('\uFEFF'), faults.Add);
        SweepSpec? spec = root is null ? null : new SweepReader(displayName, baseFolder, catalog, faults, of).Read(root);
        faults.ThrowIfAny(displayName);
        SweepExpansion expansion = new(spec!, catalog);
        expansion.Check(faults, CheckedCombinations);
        faults.ThrowIfAny(displayName);
        return spec!;
    }

    /// <summary>The file's text. UTF-8 is meant; UTF-16 is read where it begins with its mark, which editors on Windows write.</summary>
    /// <exception cref="SweepFileException">It cannot be read, is not text, or is far longer than any sweep file.</exception>
    public static string ReadText(string path)
    {
        try
        {
            if (Directory.Exists(path))
            {
                throw Fault(path, "This is a folder; name the sweep file in it.");
            }

            if (!File.Exists(path))
            {
                throw Fault(path, "There is no such file.");
            }

            byte[] bytes = ReadBytes(path);
            try
            {
                using StreamReader reader = new(
                    new MemoryStream(bytes), new UTF8Encoding(false, throwOnInvalidBytes: true), detectEncodingFromByteOrderMarks: true);
                return reader.ReadToEnd();
            }
            catch (DecoderFallbackException)
            {
                throw NotText(path, bytes);
            }
        }
        catch (Exception ex) when (ex is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw Fault(path, $"The file cannot be read: {ex.Message}");
        }
    }

    // A pipe or a device does not say how long it is, so it is the reading that stops.
    private static byte[] ReadBytes(string path)
    {
        using FileStream file = File.OpenRead(path);
        using MemoryStream bytes = new();
        byte[] part = new byte[64 << 10];
        for (int read = file.Read(part); read > 0; read = file.Read(part))
        {
            bytes.Write(part, 0, read);
            if (bytes.Length > MostBytes)
            {
                throw Fault(path, $"The file has more than {MostBytes} bytes, which no sweep file has.");
            }
        }

        return bytes.ToArray();
    }

    private static SweepFileException NotText(string path, byte[] bytes)
    {
        int at = 0;
        try
        {
            new UTF8Encoding(false, throwOnInvalidBytes: true).GetCharCount(bytes);
        }
        catch (DecoderFallbackException ex)
        {
            at = Math.Clamp(ex.Index, 0, bytes.Length);
        }

        int line = 1 + bytes.AsSpan(0, at).Count((byte)'\n');
        int column = at - bytes.AsSpan(0, at).LastIndexOf((byte)'\n');
        return new SweepFileException(path, [new SweepFault(line, column, "The file is not UTF-8 text here; save it as UTF-8.")]);
    }

    private static SweepFileException Fault(string path, string message) => new(path, [new SweepFault(1, 1, message)]);
}
