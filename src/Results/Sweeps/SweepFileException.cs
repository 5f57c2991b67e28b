namespace Experiments.Results.Sweeps;

/// <summary>A sweep file with faults: all of them, each with its place and what to do.</summary>
/// <remarks>The message tells the first hundred, one a line, and counts the rest.</remarks>
public sealed class SweepFileException(string file, IReadOnlyList<SweepFault> faults) : Exception(Say(file, faults))
{
    private const int MostTold = 100;

    public string File { get; } = file;

    public IReadOnlyList<SweepFault> Faults { get; } = faults;

    private static string Say(string file, IReadOnlyList<SweepFault> faults)
    {
        string told = string.Join('\n', faults.Take(MostTold).Select(f => $"{file}:{f.Line}:{f.Column}: {f.Message}"));
        return faults.Count <= MostTold ? told : $"{told}\n{file}: and {faults.Count - MostTold} more faults.";
    }
}

/// <param name="Line">1-based.</param>
/// <param name="Column">1-based.</param>
/// <param name="Message">What was given, what was needed, the nearest name.</param>
public sealed record SweepFault(int Line, int Column, string Message);
