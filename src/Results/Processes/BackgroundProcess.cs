using System.Collections;
using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;

namespace Experiments.Results.Processes;

/// <summary>Programs that outlive the one that starts them.</summary>
public static class BackgroundProcess
{
    private const int Terminating = 15, Killing = 9;

    /// <summary>How this very program is started once more.</summary>
    /// <exception cref="InvalidOperationException">It does not know its own executable.</exception>
    public static IReadOnlyList<string> CommandOfThis(params IEnumerable<string> words)
    {
        string program = Environment.ProcessPath ?? throw new InvalidOperationException("This process does not know its own executable.");
        string? entry = Assembly.GetEntryAssembly()?.Location;
        bool hosted = string.Equals(Path.GetFileNameWithoutExtension(program), "dotnet", StringComparison.OrdinalIgnoreCase);
        return hosted && entry is { Length: > 0 } ? [program, entry, .. words] : [program, .. words];
    }

    /// <summary>Starts a program that has none of our streams and does not die with our terminal.</summary>
    /// <param name="log">Where its output is appended; null for nowhere.</param>
    /// <param name="environment">What it has beyond our own, for what must not stand on a command line.</param>
    /// <returns>Its process, which is not waited for.</returns>
    public static Process Launch(IReadOnlyList<string> command, string? log = null, IReadOnlyDictionary<string, string>? environment = null)
    {
        ProcessStartInfo start;
        if (OperatingSystem.IsWindows())
        {
            start = new ProcessStartInfo(command[0], command.Skip(1)) { CreateNoWindow = true, UseShellExecute = false };
        }
        else
        {
            // Only a shell can give a child /dev/null here; what reads our standard output would otherwise wait for it too.
            start = new ProcessStartInfo("/bin/sh",
            [
                "-c", "trap '' INT HUP; exec \"$@\" </dev/null >>\"$0\" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-", log ?? "/dev/null", .. command,
            ]);
        }

        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        start.WorkingDirectory = Path.GetPathRoot(Environment.CurrentDirectory) ?? "/";
        return Process.Start(start) ?? throw new InvalidOperationException($"{command[0]} was not started.");
    }

    /// <summary>Puts this process, which was launched so, into a group of its own, where the signals to its starter's group do not arrive.</summary>
    public static void LeaveGroup()
    {
        if (!OperatingSystem.IsWindows())
        {
            // Fails for a process that leads its group already, as one that a shell or an init started.
            _ = Unix.StartSession();
        }
    }

    /// <summary>Puts a program in the place of this one: the same process, environment and streams; every other descriptor is closed. Not on Windows.</summary>
    /// <returns>Only when it could not: the system's error.</returns>
    public static int Become(IReadOnlyList<string> command)
    {
        ArgumentNullException.ThrowIfNull(command);

        // Ours, which the C library has not heard of what was set in. The lists end with a null.
        IEnumerable<string> environment = Environment.GetEnvironmentVariables().Cast<DictionaryEntry>().Select(v => $"{v.Key}={v.Value}");
        _ = Unix.Execute(command[0], [.. command, null], [.. environment, null]);
        return Marshal.GetLastPInvokeError();
    }

    /// <summary>Ends this process, and waits for nothing and nobody. Not on Windows.</summary>
    public static void EndNow(int code) => Unix.EndNow(code);

    /// <summary>Asks a process to end. Nothing where it is gone.</summary>
    public static void Terminate(int processId) => Signal(processId, Terminating);

    /// <summary>Ends a process at once. Nothing where it is gone.</summary>
    public static void Kill(int processId) => Signal(processId, Killing);

    private static void Signal(int processId, int signal)
    {
        // 0 means our own group to kill(2), and −1 whatever we may signal: for root the machine.
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(processId);
        _ = Unix.Kill(processId, signal);
    }
}
