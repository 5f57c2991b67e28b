using System.Diagnostics;
using System.Text.RegularExpressions;

namespace Experiments.Kernels.Tests;

/// <summary>Tests of this assembly in a process of their own: for settings that the runtime reads once, and for what kills it.</summary>
internal static partial class ChildProcess
{
    /// <summary>Runs the tests that the arguments choose, and gives the exit code and all that was printed.</summary>
    public static async Task<(int ExitCode, string Output)> RunAsync(
        IEnumerable<string> arguments, params (string Name, string Value)[] environment)
    {
        // The runner's own test may be hosted by dotnet; the executable beside the assembly is the same program.
        string executable = Path.Combine(
            AppContext.BaseDirectory, "Experiments.Kernels.Tests" + (OperatingSystem.IsWindows() ? ".exe" : ""));
        ProcessStartInfo start = new(executable, [.. arguments, "--no-ansi", "--output", "Detailed"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        try
        {
            CancellationToken cancellation = TestContext.Current.CancellationToken;
            Task<string> errors = process.StandardError.ReadToEndAsync(cancellation);
            string output = await process.StandardOutput.ReadToEndAsync(cancellation);
            await process.WaitForExitAsync(cancellation);
            return (process.ExitCode, output + "\n" + await errors);
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }

    /// <summary>How many tests a child says that it ran.</summary>
    public static int Total(string output) =>
        TotalPattern().Match(output) is { Success: true } total ? int.Parse(total.Groups[1].ValueSpan) : 0;

    [GeneratedRegex(@"total:\s*(\d+)")]
    private static partial Regex TotalPattern();
}
