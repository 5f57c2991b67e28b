using System.Diagnostics;
using System.Text;
using Experiments.Results.Processes;
using Experiments.Results.Store;

namespace Experiments.Results.PrivatePostgres;

/// <summary>Runs the server's own programs, as the user that may.</summary>
internal static class ServerProcess
{
    /// <summary>Runs a program to its end. Its output is read, so that a pipe of ours is never held by what it leaves running.</summary>
    internal static async Task<(int ExitCode, string Output)> RunAsync(
        string program, IReadOnlyList<string> arguments, UnixUser? user, CancellationToken cancellation)
    {
        ProcessStartInfo start = new(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            // The folder we stand in may be closed to the server's user.
            WorkingDirectory = Path.GetPathRoot(Path.GetFullPath(program)),
        };
        if (user is not null)
        {
            start.UserName = user.Name;
            start.Environment["HOME"] = "/";
        }

        // A message is matched in English, and initdb takes its locale from its options alone.
        start.Environment["LC_ALL"] = "C";
        start.Environment.Remove("PGDATA");
        start.Environment.Remove("PGPORT");
        start.Environment.Remove("PGHOST");
        StringBuilder output = new();
        using Process process = new() { StartInfo = start };
        process.OutputDataReceived += (_, line) => Append(output, line.Data);
        process.ErrorDataReceived += (_, line) => Append(output, line.Data);
        try
        {
            process.Start();
        }
        catch (System.ComponentModel.Win32Exception fault)
        {
            throw new StoreUnavailableException($"{program} could not be started: {fault.Message}.", fault);
        }

        process.StandardInput.Close();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        await process.WaitForExitAsync(cancellation);
        lock (output)
        {
            return (process.ExitCode, output.ToString());
        }
    }

    private static void Append(StringBuilder output, string? line)
    {
        if (line is not null)
        {
            lock (output)
            {
                output.AppendLine(line);
            }
        }
    }
}
