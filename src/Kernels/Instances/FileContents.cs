using System.Security.Cryptography;

namespace Experiments.Kernels.Instances;

/// <param name="Path">As a message calls it.</param>
public sealed record GivenFile(string Path, ReadOnlyMemory<byte> Bytes);

/// <summary>What files hold, by the first 128 bits of their SHA-256 as lower-case hex: what a sweep knows its files by.</summary>
public static class FileContents
{
    /// <summary>Of the settings that hold contents; the name of the setting that names the file follows.</summary>
    public const string SettingPrefix = "content_";

    // Read whole, and anew for each instance. What is larger is for families with a cache of their own.
    private const long MostRead = 64 << 20;

    // Known by path, length and time of last writing, so that one that changes is looked at again. A sweep over more files hashes some twice.
    private const int MostRemembered = 4096;

    private static readonly Lock Gate = new();
    private static readonly Dictionary<string, (long Length, long Written, string Content)> Remembered = new(StringComparer.Ordinal);

    /// <summary>Whether a file is there and has this content. What it said of a file is remembered until the file's length or time of last writing
    /// changes.</summary>
    public static bool Holds(string path, string content)
    {
        try
        {
            return File.Exists(path) && Of(path) == content;
        }
        catch (Exception unreadable) when (unreadable is InvalidDataException or IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <exception cref="InvalidDataException">It is no regular file, or was changed while it was read.</exception>
    internal static string Of(string path)
    {
        string full = Path.GetFullPath(path);
        (long Length, long Written) state = StateOf(full);
        lock (Gate)
        {
            if (Remembered.TryGetValue(full, out (long Length, long Written, string Content) known) && (known.Length, known.Written) == state)
            {
                return known.Content;
            }
        }

        ThrowIfNotRegular(path);
        string content;
        using (FileStream stream = new(full, FileMode.Open, FileAccess.Read, FileShare.Read))
        {
            content = Name(SHA256.HashData(stream));
        }

        if (StateOf(full) != state)
        {
            throw new InvalidDataException($"{path} was changed while it was read. Leave it alone, and try again.");
        }

        lock (Gate)
        {
            if (Remembered.Count >= MostRemembered)
            {
                Remembered.Clear();
            }

            Remembered[full] = (state.Length, state.Written, content);
        }

        return content;
    }

    /// <param name="content">What it has to hold; empty where nobody said.</param>
    internal static GivenFile Read(string path, string content)
    {
        try
        {
            if (Directory.Exists(path))
            {
                throw new InvalidDataException($"{path} is a folder; a file is needed.");
            }

            long length = ThrowIfNotRegular(path);
            if (length > MostRead)
            {
                throw new InvalidDataException($"{path} has {length >> 20} MiB; at most {MostRead >> 20} can be read.");
            }

            byte[] bytes = File.ReadAllBytes(path);
            string found = Name(SHA256.HashData(bytes));
            return content.Length == 0 || content == found ? new GivenFile(path, bytes) : throw Changed(path, found, content);
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new InvalidDataException($"{path} does not exist. Put it there, or name another place.", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new InvalidDataException($"{path} cannot be read: {error.Message}", error);
        }
    }

    /// <summary>The numbers of a changed file would be stored under another instance's name.</summary>
    internal static InvalidDataException Changed(string path, string found, string content) => new(
        $"{path} has changed since the sweep was made: its content is {found}, and the sweep is of {content}. Put the file back and resume, or run the sweep "
        + "file again as a new sweep.");

    private static string Name(ReadOnlySpan<byte> hash) => Convert.ToHexStringLower(hash[..16]);

    private static (long Length, long Written) StateOf(string path)
    {
        // Of what a link leads to: the link itself stays as it is.
        FileInfo info = new(path);
        info = info.LinkTarget is null ? info : new FileInfo(info.ResolveLinkTarget(returnFinalTarget: true)!.FullName);
        return info.Exists ? (info.Length, info.LastWriteTimeUtc.Ticks) : (-1, 0);
    }

    /// <summary>Opening a pipe waits for whoever writes into it, perhaps for ever. The system gives it, and every device, a length of 0.</summary>
    private static long ThrowIfNotRegular(string path) =>
        new FileInfo(File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path).Length is > 0 and long length
            ? length
            : throw new InvalidDataException($"{path} is empty, or a pipe or device; a regular file is needed.");
}
