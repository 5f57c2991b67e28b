using System.Text.Json;
using Experiments.Results.Processes;

namespace Experiments.Silo.OneMachine;

/// <summary>What a process of a cluster says of itself.</summary>
/// <param name="Process">Its number; null until it has said it, or when its file holds none.</param>
/// <param name="Endpoint">Where the others reach it; null until it is up.</param>
/// <param name="Health">Where its health is served; null until it is up, or for nowhere.</param>
public sealed record MemberState(int? Process, string? Endpoint, string? Health)
{
    /// <summary>What its starter told it, where that was a cluster on one machine: see <see cref="StartedWith"/>.</summary>
    public string? Started { get; init; }
}

/// <summary>A file in which a process says who it is, and beside it one that it holds locked while it lives. The lock goes with the process however that
/// ends, so that a number in a file that is not locked is nobody's.</summary>
public sealed class MemberFile : IDisposable
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    // Whoever asks whether the process lives holds the lock for a moment.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private readonly string _path;
    private readonly FileLock _lock;

    private MemberFile(string path, FileLock held) => (_path, _lock) = (path, held);

    /// <summary>Takes the file for this process, which then is one that outlives its starter.</summary>
    /// <exception cref="ClusterSiloException">Another process has it, or it cannot be written.</exception>
    public static async Task<MemberFile> HoldAsync(string path, CancellationToken cancellation)
    {
        using CancellationTokenSource patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(Patience);
        try
        {
            MemberFile file = new(path, await FileLock.AcquireAsync(LockOf(path), patience.Token));
            BackgroundProcess.LeaveGroup();
            file.Say(null, null);
            return file;
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new ClusterSiloException(
                $"{path} is that of {(Read(path)?.Process is int other ? $"process {other}" : "a process")}, which runs. End that first, or name another file.");
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw new ClusterSiloException($"The state file cannot be written: {fault.Message}", fault);
        }
    }

    /// <summary>Whether a process had this file at any time.</summary>
    public static bool Was(string path) => File.Exists(LockOf(path));

    /// <summary>Who holds a file, or null when nobody does.</summary>
    public static MemberState? Living(string path) => FileLock.IsHeld(LockOf(path)) ? Read(path) ?? new MemberState(null, null, null) : null;

    /// <summary>Removes what a killed process said of itself, before another takes its file: between its taking and its own first word the number there
    /// would be taken for its own.</summary>
    public static void ForgetLast(string path)
    {
        using FileLock? free = FileLock.TryAcquire(LockOf(path));
        if (free is not null)
        {
            File.Delete(path);
        }
    }

    /// <summary>Removes what a process that has ended left.</summary>
    public static void Forget(string path)
    {
        File.Delete(path);
        File.Delete(LockOf(path));
    }

    public void Say(string? endpoint, string? health)
    {
        File.WriteAllBytes(_path + ".new", JsonSerializer.SerializeToUtf8Bytes(
            new MemberState(Environment.ProcessId, endpoint, health) { Started = StartedWith.OfThisProcess }, Json));
        File.Move(_path + ".new", _path, overwrite: true);
    }

    public void Dispose()
    {
        File.Delete(_path);
        _lock.Dispose();
    }

    private static string LockOf(string path) => path + ".lock";

    private static MemberState? Read(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<MemberState>(File.ReadAllBytes(path), Json) is { Process: > 0 } state ? state : null;
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException or JsonException)
        {
            return null; // It has the lock, and has not said yet; or it is about to end; or somebody wrote into its file.
        }
    }
}
