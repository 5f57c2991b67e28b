using System.ComponentModel;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Experiments.Results.Processes;

/// <summary>The few calls of a Unix that .NET has no name for. None is called on Windows.</summary>
internal static partial class Unix
{
    // The runtime's own lstat has one layout on every Unix, which the C library's has not: flags, mode, uid, gid, ….
    private const int StatusBytes = 256;
    private const int ExecuteByOther = 1;
    private const int ExecuteByGroup = 8;
    private const int ExecuteByOwner = 64;

    internal static bool IsRoot => !OperatingSystem.IsWindows() && EffectiveUserId() == 0;

    [LibraryImport("libc", EntryPoint = "geteuid")]
    internal static partial uint EffectiveUserId();

    /// <summary>Leaves the terminal, so that its Ctrl-C and its hang-up do not arrive. −1 when this process leads a group already.</summary>
    [LibraryImport("libc", EntryPoint = "setsid", SetLastError = true)]
    internal static partial int StartSession();

    /// <summary>A second descriptor of a file, which no program that is started has; −1 when there is none.</summary>
    [LibraryImport("libSystem.Native", EntryPoint = "SystemNative_Dup", SetLastError = true)]
    internal static partial nint Duplicate(nint descriptor);

    [LibraryImport("libc", EntryPoint = "dup2", SetLastError = true)]
    internal static partial int Duplicate(int descriptor, int onto);

    /// <summary>Puts another program in the place of this one, in the same process; returns only when it could not.</summary>
    [LibraryImport("libc", EntryPoint = "execve", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Execute(string path, string?[] words, string?[] environment);

    /// <summary>Ends the process, and waits for nothing and nobody.</summary>
    [LibraryImport("libc", EntryPoint = "_exit")]
    internal static partial void EndNow(int code);

    internal static bool IsAlive(int processId) =>
        Kill(processId, 0) == 0 || Marshal.GetLastPInvokeError() == 1;

    internal static void ChangeOwner(string path, UnixUser user)
    {
        if (ChangeOwner(path, user.UserId, user.GroupId) != 0)
        {
            throw new IOException(
                $"{path} could not be given to user {user.Name}: {new Win32Exception(Marshal.GetLastPInvokeError()).Message}.");
        }
    }

    /// <summary>Who owns a path, itself rather than what it may link to; null when there is nothing.</summary>
    internal static PathStatus? Status(string path)
    {
        Span<byte> status = stackalloc byte[StatusBytes];
        status.Clear();
        if (Status(path, ref MemoryMarshal.GetReference(status)) != 0)
        {
            return null;
        }

        ReadOnlySpan<uint> words = MemoryMarshal.Cast<byte, uint>(status);
        return new PathStatus((int)words[1], words[2], words[3]);
    }

    /// <summary>Whether a user may pass through every folder above a path (as far as they exist), by owner, group and other bits.</summary>
    internal static bool CanReach(UnixUser user, string path)
    {
        for (string? folder = Path.GetDirectoryName(Path.GetFullPath(path)); folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (!Directory.Exists(folder))
            {
                continue;
            }

            string real = Directory.ResolveLinkTarget(folder, returnFinalTarget: true)?.FullName ?? folder;
            if (Status(real) is not PathStatus status)
            {
                continue;
            }

            int needed = status.UserId == user.UserId ? ExecuteByOwner
                : status.GroupId == user.GroupId ? ExecuteByGroup : ExecuteByOther;
            if ((status.Mode & needed) == 0)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The user of a name or number, from /etc/passwd; null when there is none.</summary>
    internal static UnixUser? FindUser(Func<string, uint, bool> wanted)
    {
        if (!File.Exists("/etc/passwd"))
        {
            return null;
        }

        foreach (string line in File.ReadLines("/etc/passwd"))
        {
            string[] parts = line.Split(':');
            if (parts.Length > 3
                && uint.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out uint userId)
                && uint.TryParse(parts[3], NumberStyles.None, CultureInfo.InvariantCulture, out uint groupId)
                && wanted(parts[0], userId))
            {
                return new UnixUser(parts[0], userId, groupId);
            }
        }

        return null;
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    internal static partial int Kill(int processId, int signal);

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeOwner(string path, uint userId, uint groupId);

    [LibraryImport("libSystem.Native", EntryPoint = "SystemNative_LStat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Status(string path, ref byte status);
}

internal sealed record UnixUser(string Name, uint UserId, uint GroupId);

internal readonly record struct PathStatus(int Mode, uint UserId, uint GroupId);
