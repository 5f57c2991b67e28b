using System.Diagnostics;

namespace Experiments.Cluster.Tests.Driving;

/// <summary>A file system of a few megabytes in memory, which can be filled.</summary>
/// <remarks>A shell waits on a pipe whose other end is ours, and takes it down when that closes, however we end.</remarks>
internal sealed class SmallDisk : IAsyncDisposable
{
    private readonly Process? _guardian;

    private SmallDisk(string folder, Process? guardian, string? unavailable) => (Folder, _guardian, Unavailable) = (folder, guardian, unavailable);

    public string Folder { get; }

    /// <summary>Why there is none; null when there is.</summary>
    public string? Unavailable { get; }

    private string Ballast => Path.Combine(Folder, "ballast");

    public static async Task<SmallDisk> MountAsync(int megabytes)
    {
        string folder = Directory.CreateTempSubdirectory("experiments-disk-").FullName;
        using Process mount = Process.Start(new ProcessStartInfo("mount", ["-t", "tmpfs", "-o", $"size={megabytes}m,mode=755", "tmpfs", folder])
        {
            RedirectStandardError = true,
        })!;
        string why = await mount.StandardError.ReadToEndAsync();
        await mount.WaitForExitAsync();
        if (mount.ExitCode != 0)
        {
            Directory.Delete(folder);
            return new SmallDisk(folder, null, $"no file system of its own can be mounted here: {why.Trim()}");
        }

        return new SmallDisk(
            folder,
            Process.Start(new ProcessStartInfo("/bin/sh", ["-c", "trap '' INT HUP TERM; read -r _; umount -l \"$1\"; rmdir \"$1\"", "guardian", folder])
            {
                RedirectStandardInput = true,
            }),
            null);
    }

    /// <summary>Takes all the room that is left.</summary>
    public void Fill()
    {
        using FileStream ballast = new(Ballast, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        byte[] block = new byte[4096];
        try
        {
            while (true)
            {
                ballast.Write(block);
            }
        }
        catch (IOException full)
        {
            Debug.WriteLine(full.Message);
        }
    }

    public void MakeRoom() => File.Delete(Ballast);

    public async ValueTask DisposeAsync()
    {
        if (_guardian is not null)
        {
            _guardian.StandardInput.Close();
            await _guardian.WaitForExitAsync();
            _guardian.Dispose();
        }
    }
}
