namespace Experiments.Client.Terminals;

/// <summary>A file that appears whole or not at all: written beside its place, then renamed.</summary>
internal static class AtomicFile
{
    /// <summary>Refuses early what could only fail late: a folder that is not there, a path that is a folder or a device.</summary>
    /// <exception cref="CommandException">The message says which.</exception>
    public static void CheckPlace(string path, string option)
    {
        if (path.Length == 0)
        {
            throw CommandException.Invalid($"{option} is empty; a file name is needed.");
        }

        if (Directory.Exists(path))
        {
            throw CommandException.Invalid($"{option} '{path}' is a folder; a file name is needed.");
        }

        // The file is renamed into its place, which would leave an ordinary file where a device was.
        string full = Path.GetFullPath(path);
        if (full.StartsWith("/dev/", StringComparison.Ordinal) && !full.StartsWith("/dev/shm/", StringComparison.Ordinal))
        {
            throw CommandException.Invalid($"{option} '{path}' is a device; a file name is needed.");
        }

        string folder = Path.GetDirectoryName(full) ?? "/";
        if (!Directory.Exists(folder))
        {
            throw CommandException.Invalid($"{option} '{path}': the folder '{folder}' does not exist.");
        }
    }

    /// <param name="write">Is given the temporary path to write to.</param>
    /// <exception cref="CommandException">It could not be written; nothing is left behind.</exception>
    public static async Task WriteAsync(string path, string option, Func<string, Task> write)
    {
        CheckPlace(path, option);
        string full = Path.GetFullPath(path);
        string temporary = $"{full}.{Environment.ProcessId}.tmp";
        try
        {
            await write(temporary);
            File.Move(temporary, full, overwrite: true);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw CommandException.Invalid($"{option} '{path}' cannot be written: {fault.Message}", fault);
        }
        finally
        {
            File.Delete(temporary);
        }
    }
}
