using System.Diagnostics;
using System.Text.RegularExpressions;

namespace Experiments.Benchmarks.Measuring;

/// <summary>What one turn of a method's innermost loop consists of, by the compiler's own listing.</summary>
/// <param name="Name">The method with its type arguments, without namespaces.</param>
/// <param name="Moves">Copies from register to register, which a processor renames and does not execute.</param>
internal sealed record InnerLoop(string Name, int Instructions, int MultiplyAdds, int OtherVector, int Loads, int Stores, int Moves);

/// <summary>The machine code that the runtime makes of methods, as it prints it (<c>DOTNET_JitDisasm</c>).</summary>
internal static partial class Listing
{
    private const string Names = "DOTNET_JitDisasm", File = "DOTNET_JitStdOutFile";

    /// <summary>Has this command compiled in a process of its own that lists what it compiles; null in that process, which has only to call the methods.</summary>
    /// <param name="program">As of a process: file and first arguments.</param>
    /// <exception cref="IOException">That process failed.</exception>
    public static IReadOnlyList<InnerLoop>? Of(string[] program, string[] args, params string[] methods)
    {
        if (Environment.GetEnvironmentVariable(File) is not null)
        {
            return null;
        }

        string listing = Path.GetTempFileName();
        try
        {
            ProcessStartInfo start = new(program[0], [.. program[1..], .. args]) { RedirectStandardOutput = true };
            start.Environment[Names] = string.Join(' ', methods);
            start.Environment[File] = listing;
            using Process process = Process.Start(start)!;
            process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            if (process.ExitCode != 0)
            {
                throw new IOException($"The process that lists the compiled loops ended with {process.ExitCode}.");
            }

            return Read(System.IO.File.ReadLines(listing));
        }
        finally
        {
            System.IO.File.Delete(listing);
        }
    }

    /// <summary>The loop of each method that has most multiply-adds among those that hold no other: what lies between a label and a jump back to it.</summary>
    internal static IReadOnlyList<InnerLoop> Read(IEnumerable<string> lines)
    {
        Dictionary<string, InnerLoop> most = [];
        Dictionary<string, int> labels = [];
        List<string> body = [];
        string method = "";
        int lastLoop = 0;
        foreach (string line in lines)
        {
            if (Method().Match(line) is { Success: true } header)
            {
                method = Short(header.Groups[1].Value);
                labels.Clear();
                body.Clear();
                lastLoop = 0;
            }
            else if (Label().Match(line) is { Success: true } label)
            {
                labels[label.Groups[1].Value] = body.Count;
            }
            else if (Instruction().Match(line) is { Success: true } instruction && instruction.Groups[1].Value != "align")
            {
                body.Add(line.Trim());
                if (line.TrimStart().StartsWith('j') && labels.TryGetValue(line[(line.LastIndexOf(' ') + 1)..], out int begins))
                {
                    InnerLoop found = Count(method, body[begins..]);
                    if (begins >= lastLoop && !(most.TryGetValue(method, out InnerLoop? known) && known.MultiplyAdds >= found.MultiplyAdds))
                    {
                        most[method] = found;
                    }

                    lastLoop = body.Count;
                }
            }
        }

        return [.. most.Values];
    }

    private static InnerLoop Count(string method, List<string> block)
    {
        int multiplyAdds = 0, other = 0, loads = 0, stores = 0, moves = 0;
        foreach (string instruction in block)
        {
            string name = instruction.Split(' ')[0];
            bool memory = instruction.Contains("ptr [", StringComparison.Ordinal), move = Move().IsMatch(name);
            bool store = move && instruction.IndexOf("ptr [", StringComparison.Ordinal) is > 0 and int at
                && (instruction.IndexOf(',', StringComparison.Ordinal) is int comma && comma > at);
            stores += store ? 1 : 0;
            loads += memory && !store ? 1 : 0;
            moves += move && !memory ? 1 : 0;
            if (name.StartsWith("vfm", StringComparison.Ordinal) || name.StartsWith("vfnm", StringComparison.Ordinal))
            {
                multiplyAdds++;
            }
            else if (name.StartsWith('v') && !move && !name.StartsWith("vbroadcast", StringComparison.Ordinal))
            {
                other++;
            }
        }

        return new InnerLoop(method, block.Count, multiplyAdds, other, loads, stores, moves);
    }

    private static string Short(string name) =>
        Namespace().Replace(name[..name.IndexOf('(', StringComparison.Ordinal)], "").Replace("`1", "", StringComparison.Ordinal).Replace("`2", "", StringComparison.Ordinal);

    [GeneratedRegex(@"^; Assembly listing for method (\S+)")]
    private static partial Regex Method();

    [GeneratedRegex(@"^(G_M\w+_IG\d+):")]
    private static partial Regex Label();

    [GeneratedRegex(@"^\s+([a-z]\w*)")]
    private static partial Regex Instruction();

    [GeneratedRegex(@"^vmov")]
    private static partial Regex Move();

    [GeneratedRegex(@"(\w+\.)+(?=\w)")]
    private static partial Regex Namespace();
}
