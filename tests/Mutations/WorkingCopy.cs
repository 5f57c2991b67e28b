using System.Diagnostics;

namespace Experiments.Mutations;

/// <summary>A copy of the kernels and their tests, in which sources may be spoilt.</summary>
internal sealed class WorkingCopy : IDisposable
{
    private static readonly string[] Parts = ["src/Kernels", "tests/Kernels.Tests", "tests/Testing"];

    private readonly DirectoryInfo _root = Directory.CreateTempSubdirectory("experiments-mutations-");

    public WorkingCopy(string repository)
    {
        foreach (string file in Directory.EnumerateFiles(repository))
        {
            File.Copy(file, Path.Combine(_root.FullName, Path.GetFileName(file)));
        }

        foreach (string file in Parts.SelectMany(part => Directory.EnumerateFiles(Path.Combine(repository, part), "*", SearchOption.AllDirectories)))
        {
            string relative = Path.GetRelativePath(repository, file);
            if (relative.Split(Path.DirectorySeparatorChar).Any(folder => folder is "bin" or "obj"))
            {
                continue;
            }

            string to = Path.Combine(_root.FullName, relative);
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
    }

    private string Tests => Path.Combine(_root.FullName, "tests/Kernels.Tests/bin/Release/net10.0");

    /// <summary>Builds the tests and the kernels as they are.</summary>
    /// <exception cref="InvalidOperationException">They do not build.</exception>
    public void BuildAll()
    {
        (int exitCode, string output) = Run("dotnet", ["build", "-c", "Release", "tests/Kernels.Tests", "-v", "q"], TimeSpan.FromMinutes(5));
        if (exitCode != 0)
        {
            throw new InvalidOperationException($"The tests do not build:\n{output}");
        }
    }

    /// <summary>Builds the kernels alone with one text changed, and lays them beside the tests. False if they do not compile.</summary>
    /// <exception cref="InvalidOperationException">The text does not stand in the file exactly once.</exception>
    public bool Apply(Mutation mutation)
    {
        string path = Path.Combine(_root.FullName, mutation.File), original = File.ReadAllText(path);
        int at = original.IndexOf(mutation.Text, StringComparison.Ordinal);
        if (at < 0 || original.IndexOf(mutation.Text, at + 1, StringComparison.Ordinal) >= 0)
        {
            throw new InvalidOperationException($"'{mutation.Text}' does not stand in {mutation.File} exactly once: bring mutations.txt up to date.");
        }

        File.WriteAllText(path, original.Remove(at, mutation.Text.Length).Insert(at, mutation.Replacement));
        try
        {
            // A mutant need not be tidy, only compile.
            (int exitCode, string output) = Run(
                "dotnet",
                ["build", "-c", "Release", "src/Kernels", "--no-restore", "-v", "q", "-p:TreatWarningsAsErrors=false",
                    "-p:RunAnalyzers=false", "-p:EnforceCodeStyleInBuild=false", "-p:GenerateDocumentationFile=false"],
                TimeSpan.FromMinutes(3));
            if (exitCode != 0)
            {
                Console.Error.WriteLine(output);
                return false;
            }

            File.Copy(
                Path.Combine(_root.FullName, "src/Kernels/bin/Release/net10.0/Experiments.Kernels.dll"),
                Path.Combine(Tests, "Experiments.Kernels.dll"), overwrite: true);
            return true;
        }
        finally
        {
            File.WriteAllText(path, original);
        }
    }

    /// <summary>Runs some classes of tests until one fails. Null if none does, else which, or what became of the process.</summary>
    public string? Test(IEnumerable<string> classes, int fuzzCases, TimeSpan limit) => Verdict(
        [.. classes.SelectMany(c => (string[])["--filter-class", $"Experiments.Kernels.Tests.{c}"])], limit, ("EXPERIMENTS_FUZZ_CASES", $"{fuzzCases}"));

    /// <summary>The same of one test that the test command leaves to others.</summary>
    public string? TestMethod(string method, TimeSpan limit) =>
        Verdict(["--explicit", "only", "--filter-method", $"Experiments.Kernels.Tests.{method}"], limit) is string verdict
            ? $"{method.Split('.')[^1]} ({verdict})"
            : null;

    private string? Verdict(IEnumerable<string> arguments, TimeSpan limit, params (string Name, string Value)[] environment)
    {
        (int exitCode, string output) = Run(
            Path.Combine(Tests, "Experiments.Kernels.Tests"), [.. arguments, "--stop-on-fail", "on", "--no-ansi"], limit, environment);
        return exitCode switch
        {
            0 => null,
            -1 => "time limit",
            _ => output.Split('\n').FirstOrDefault(l => l.StartsWith("failed ", StringComparison.Ordinal))?.Split(' ')[1]
                .Replace("Experiments.Kernels.Tests.", "", StringComparison.Ordinal).Split('(')[0] ?? $"killed, exit code {exitCode}",
        };
    }

    public void Dispose() => _root.Delete(recursive: true);

    private (int ExitCode, string Output) Run(
        string program, IEnumerable<string> arguments, TimeSpan limit, params (string Name, string Value)[] environment)
    {
        ProcessStartInfo start = new(program, arguments)
        {
            WorkingDirectory = _root.FullName,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync(), errors = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(limit))
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
            return (-1, output.Result + errors.Result);
        }

        return (process.ExitCode, output.Result + errors.Result);
    }
}
