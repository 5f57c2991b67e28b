using System.Collections.Concurrent;
using System.Security.Cryptography;
using Experiments.Kernels.Instances;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <param name="Folder">Made when the first file comes; silos may share it.</param>
/// <param name="MostBytes">What may lie in it. Files that are being read stay, whatever they come to.</param>
public sealed record FileCacheOptions(string Folder, long MostBytes)
{
    public const long DefaultBytes = CarriedFile.MostBytes;

    /// <summary>How long a lane whose disk is full waits for room, before the trials that need the file fail.</summary>
    public TimeSpan WaitForRoom { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>In <c>$XDG_CACHE_HOME</c>, else the home's <c>.cache</c>.</summary>
    public static FileCacheOptions Of(Func<string, string?> environment)
    {
        ArgumentNullException.ThrowIfNull(environment);
        string folder = environment("XDG_CACHE_HOME") is { Length: > 0 } cache && Path.IsPathRooted(cache) ? cache
            : environment("HOME") is { Length: > 0 } home ? Path.Combine(home, ".cache")
            : Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify) is { Length: > 0 } local ? local
            : Path.GetTempPath();
        return new(Path.Combine(folder, "experiments", "files"), DefaultBytes);
    }
}

/// <summary>Files that sweeps carry, fetched from the store once and kept on this machine's disk: each under its SHA-256 and a name of its own.</summary>
/// <remarks>
/// A file is written as a part, checked, and renamed: what is no part is whole, but for a disk that lost it, so it is checked again when
/// a process first reads it. Whoever reads a file holds a shared lock on it, and only what can be locked alone is removed: the kernel frees
/// the locks of a process that died. No name is ever used twice, since a lock is on a file and a removal of a name: what had been locked as the one
/// would be removed as the other. Two processes may so fetch one file each; the copy that nobody reads goes in time. The files used longest ago go
/// first. On a disk that is full all go that nobody reads, and room is waited for, its lease renewed meanwhile as that of any shard; once that was in
/// vain nobody waits again until a file was written. Safe for several lanes, and for several processes of one folder.
/// </remarks>
public sealed class FileCache(FileCacheOptions options, IFileSource source, TimeProvider time) : IFileLibrary, IDisposable
{
    private const string PartEnding = ".part";
    private const int HashDigits = 64;

    // Between its creation and its lock a part looks like one of a process that died.
    private static readonly TimeSpan PartsAreOldAfter = TimeSpan.FromMinutes(1);

    // Files in the store never change.
    private readonly ConcurrentDictionary<Guid, StoredFile> _stored = new();
    private readonly ConcurrentDictionary<string, string> _lastSeen = new();
    private readonly SemaphoreSlim _fetching = new(1);
    private volatile bool _waitedInVain;

    public LocatedFiles Locate(InstanceSpec instance, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(instance);
        List<(InstanceFile File, StoredFile Stored)>? wanted = null;
        foreach (InstanceFile file in instance.Files)
        {
            // Where the submitter works, or on a file system that is shared.
            if (!FileContents.Holds(file.Path, file.Content) && Find(file, cancellation) is StoredFile stored)
            {
                (wanted ??= []).Add((file, stored));
            }
        }

        if (wanted is null)
        {
            return LocatedFiles.InPlace;
        }

        long bytes = wanted.Sum(w => w.Stored.Bytes);
        if (bytes > options.MostBytes)
        {
            throw new InvalidDataException(
                $"its files have {Describe.Bytes(bytes)}, and the cache of files here, {options.Folder}, holds {Describe.Bytes(options.MostBytes)} at most; raise "
                + "EXPERIMENTS_FILES_CACHE_SIZE");
        }

        List<FileStream> held = [];
        try
        {
            foreach ((InstanceFile file, StoredFile stored) in wanted)
            {
                held.Add(Hold(file, stored, cancellation));
            }

            return new LocatedFiles([.. wanted.Zip(held, (w, h) => (w.File, h.Name))], held);
        }
        catch
        {
            held.ForEach(h => h.Dispose());
            throw;
        }
    }

    public void Dispose() => _fetching.Dispose();

    private StoredFile? Find(InstanceFile file, CancellationToken cancellation)
    {
        Guid content = Guid.ParseExact(file.Content, "N");
        return _stored.TryGetValue(content, out StoredFile? known) ? known
            : source.FindAsync(content, cancellation).GetAwaiter().GetResult() is StoredFile found ? _stored.GetOrAdd(content, found)
            : null;
    }

    /// <summary>The file, locked against removal.</summary>
    private FileStream Hold(InstanceFile file, StoredFile stored, CancellationToken cancellation)
    {
        if (TryHold(file, stored) is FileStream held)
        {
            return held;
        }

        for (long since = time.GetTimestamp(); ;)
        {
            _fetching.Wait(cancellation);
            try
            {
                // Another lane may have fetched it meanwhile.
                FileStream found = TryHold(file, stored) ?? Fetch(file, stored, cancellation);
                _waitedInVain = false;
                return found;
            }
            catch (IOException full) when (IsFull(full) && !_waitedInVain && time.GetElapsedTime(since) < options.WaitForRoom)
            {
                MakeAllRoom();
            }
            catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
            {
                _waitedInVain |= fault is IOException full && IsFull(full);
                throw new InvalidDataException(
                    $"the cache of files, {options.Folder}, cannot be written ({fault.Message.TrimEnd('.')}); make room, or name another folder in "
                    + "EXPERIMENTS_FILES_CACHE",
                    fault);
            }
            finally
            {
                _fetching.Release();
            }

            // Not all lanes and silos of a machine at once.
            Task.Delay(TimeSpan.FromMilliseconds(1000 + RandomNumberGenerator.GetInt32(2000)), time, cancellation).GetAwaiter().GetResult();
        }
    }

    /// <summary>Removes all that nobody reads; what a disk that is full has not even a folder for is waited for all the same.</summary>
    private void MakeAllRoom()
    {
        if (Directory.Exists(options.Folder))
        {
            MakeRoom(options.MostBytes);
        }
    }

    /// <summary>The disk, or what its user may have of it.</summary>
    private static bool IsFull(IOException fault)
    {
        const int NoSpace = 28, Quota = 122, WindowsDiskFull = unchecked((int)0x80070070);
        return fault.HResult is NoSpace or Quota or WindowsDiskFull;
    }

    private FileStream? TryHold(InstanceFile file, StoredFile stored)
    {
        if (_lastSeen.TryGetValue(stored.Sha256, out string? seen) && TryHold(file, stored, seen) is FileStream held)
        {
            return held;
        }

        return !Directory.Exists(options.Folder) ? null : Directory.GetFiles(Path.GetFullPath(options.Folder), stored.Sha256 + ".*")
            .Where(path => !path.EndsWith(PartEnding, StringComparison.Ordinal)).Order(StringComparer.Ordinal)
            .Select(path => TryHold(file, stored, path)).FirstOrDefault(found => found is not null);
    }

    private FileStream? TryHold(InstanceFile file, StoredFile stored, string path)
    {
        FileStream held;
        try
        {
            held = Open(path);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            // None there, or locked by whoever removes it.
            return null;
        }

        // It may have been removed between the opening and the lock; and a disk may have lost some of it.
        if (FileContents.Holds(path, file.Content))
        {
            _lastSeen[stored.Sha256] = path;
            Touch(path);
            return held;
        }

        held.Dispose();
        TryRemove(path);
        return null;
    }

    private static FileStream Open(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);

    private void Touch(string path)
    {
        try
        {
            // Not left to the system, which may not note it (noatime) or only once a day.
            File.SetLastAccessTimeUtc(path, time.GetUtcNow().UtcDateTime);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            // A file of another user's, in a folder that is shared: it goes by when it was fetched.
        }
    }

    private FileStream Fetch(InstanceFile file, StoredFile stored, CancellationToken cancellation)
    {
        FileStreamOptions create = new() { Mode = FileMode.CreateNew, Access = FileAccess.Write, Share = FileShare.Delete, BufferSize = 0 };
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(options.Folder);
        }
        else
        {
            // What somebody's matrices hold is nobody else's business.
            const UnixFileMode Mine = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            Directory.CreateDirectory(options.Folder, Mine | UnixFileMode.UserExecute);
            create.UnixCreateMode = Mine;
        }

        MakeRoom(stored.Bytes);
        string path = Path.GetFullPath(Path.Combine(options.Folder, $"{stored.Sha256}.{Guid.NewGuid():N}"));
        string part = path + PartEnding;
        try
        {
            using FileStream to = new(part, create);
            using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            for (int number = 0; number < stored.Pieces; number++)
            {
                byte[] piece = source.FindPieceAsync(stored.Content, number, cancellation).GetAwaiter().GetResult() ?? [];
                hash.AppendData(piece);
                to.Write(piece);
                Failpoints.Hit(Failpoints.MidFetch);
            }

            if (to.Length != stored.Bytes || Convert.ToHexStringLower(hash.GetHashAndReset()) != stored.Sha256)
            {
                throw new InvalidDataException(
                    $"the store's copy of {file.Path} is not what was submitted: its SHA-256 is not {stored.Sha256}. Restore it from a backup, or submit the sweep again");
            }

            // All the while it is open, and so locked, as what is written and as what may be read: nobody removes it in between.
            File.Move(part, path);
            FileStream held = Open(path);
            _lastSeen[stored.Sha256] = path;
            Touch(path);
            return held;
        }
        finally
        {
            File.Delete(part);
        }
    }

    private void MakeRoom(long bytes)
    {
        DateTime old = (time.GetUtcNow() - PartsAreOldAfter).UtcDateTime;
        long used = 0;
        List<FileInfo> kept = [];
        foreach (FileInfo file in new DirectoryInfo(options.Folder).EnumerateFiles())
        {
            // What it is now is asked once: another process may remove it at any moment. And what is not named as ours is somebody's own.
            file.Refresh();
            if (!file.Exists || file.Name.IndexOf('.', StringComparison.Ordinal) != HashDigits)
            {
                continue;
            }

            bool isPart = file.Name.EndsWith(PartEnding, StringComparison.Ordinal);
            if (isPart && file.LastWriteTimeUtc < old && TryRemove(file.FullName))
            {
                // What a process that died was writing.
                continue;
            }

            used += file.Length;
            if (!isPart)
            {
                kept.Add(file);
            }
        }

        foreach (FileInfo file in kept.OrderBy(f => f.LastAccessTimeUtc))
        {
            if (used + bytes <= options.MostBytes)
            {
                return;
            }

            used -= TryRemove(file.FullName) ? file.Length : 0;
        }
    }

    /// <summary>Removes a file that nobody has open; false when somebody has.</summary>
    private static bool TryRemove(string path)
    {
        try
        {
            // Deleted before the lock is given up.
            new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose).Dispose();
            return true;
        }
        catch (FileNotFoundException)
        {
            return true;
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
