namespace Experiments.Results.Processes;

/// <summary>A lock between processes: a file held open for one of them, freed by the kernel when its holder dies.</summary>
/// <remarks>The file stays: deleting it would let two processes lock two files of one name.</remarks>
public sealed class FileLock : IDisposable
{
    // EWOULDBLOCK on Linux and on macOS, ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION on Windows. Any other fault, such as a
    // file system that has become read-only, would be waited for in vain.
    private static readonly int[] HeldElsewhere = [11, 35, unchecked((int)0x80070020), unchecked((int)0x80070021)];
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);
    private readonly FileStream _file;

    private FileLock(FileStream file) => _file = file;

    /// <summary>The lock, or null while another process has it.</summary>
    public static FileLock? TryAcquire(string path)
    {
        try
        {
            return new FileLock(new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (IOException fault) when (HeldElsewhere.Contains(fault.HResult))
        {
            return null;
        }
    }

    /// <summary>Whether another has the lock. Nobody who asks keeps anybody else who asks from seeing that it is free.</summary>
    public static bool IsHeld(string path)
    {
        try
        {
            using FileStream shared = new(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            return false;
        }
        catch (IOException fault) when (HeldElsewhere.Contains(fault.HResult))
        {
            return true;
        }
        catch (Exception none) when (none is FileNotFoundException or DirectoryNotFoundException)
        {
            return false;
        }
    }

    public static async Task<FileLock> AcquireAsync(string path, CancellationToken cancellation)
    {
        while (true)
        {
            if (TryAcquire(path) is FileLock held)
            {
                return held;
            }

            await Task.Delay(Pause, cancellation);
        }
    }

    public void Dispose() => _file.Dispose();
}
