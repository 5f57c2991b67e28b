using System.CommandLine;
using System.Globalization;
using System.Numerics;
using Experiments.Benchmarks.Measuring;

namespace Experiments.Benchmarks.Commands;

/// <summary>Options that several commands take, and the reading of lists.</summary>
internal sealed class SharedOptions
{
    // A day: whoever means more has typed something else.
    private const double MostSeconds = 86_400;

    public Option<string> D { get; } = Words("--d", "8,16,32,64", "Head dimensions");

    public Option<string> Precision { get; } = Words("--precision", "float32,float64", "float32, float64 or both");

    public Option<string> Threads { get; } = Words("--threads",
        string.Join(',', Enumerable.Range(0, 31).Select(i => 1 << i).TakeWhile(t => t <= Environment.ProcessorCount)),
        "Thread counts, measured side by side in the same rounds");

    public Option<string> Kernels { get; } = Words("--kernels", "exact", "Our kernels: exact, low-rank");

    public Option<int> Degree { get; } = new("--degree")
    {
        Description = "Degree of the low-rank kernel's polynomial", DefaultValueFactory = _ => 4, HelpName = "G",
    };

    public Option<double> Bound { get; } = new("--bound")
    {
        Description = "B of the inputs: entries of A1 X and A2 are uniform in [−B, B]", DefaultValueFactory = _ => 1, HelpName = "B",
    };

    public Option<int> Rounds { get; } = new("--rounds")
    {
        Description = "Rounds; in each, everything is timed once", DefaultValueFactory = _ => 9, HelpName = "COUNT",
    };

    public Option<double> SampleSeconds { get; } = new("--sample-seconds")
    {
        Description = "Least time of one sample: short calls are repeated until they fill it",
        DefaultValueFactory = _ => 0.05,
        HelpName = "S",
    };

    public Option<double> LimitSeconds { get; } = new("--limit-seconds")
    {
        Description = "No round is begun that would end after this much time, except the first three",
        DefaultValueFactory = _ => 120,
        HelpName = "S",
    };

    public Option<string> ClockName { get; } = Words("--clock", "wall",
        "wall, or cpu: processor time, for one thread on a machine that others use too");

    public Option<string> Instructions { get; } = Words("--instructions", "native",
        "native, or avx2: no AVX-512, neither for us nor for a rival");

    public Option<string?> Markdown { get; } = new("--markdown")
    {
        Description = "Write the tables, the command and the machine as a section of this file", HelpName = "FILE",
    };

    public static Option<string> Words(string name, string usual, string description) => new(name)
    {
        Description = description, DefaultValueFactory = _ => usual, HelpName = usual.Contains(',', StringComparison.Ordinal) ? "LIST" : "WORD",
    };

    /// <summary>Checks what the system of options cannot, and makes the rounds.</summary>
    public Rounds RoundsOf(ParseResult parsed)
    {
        Clock clock = new(OneOf("--clock", parsed.GetValue(ClockName)!, "wall", "cpu") == "cpu");
        if (clock.Processor && Numbers("--threads", parsed.GetValue(Threads)!, 1, 4096).Any(t => t > 1))
        {
            throw new ArgumentException("--clock cpu adds up the time of all threads, so it can only time one. Add --threads 1.");
        }

        return new(
            Between("--rounds", parsed.GetValue(Rounds), Measuring.Rounds.Least, 100_000),
            // Below a microsecond it is the clock that is measured.
            Between("--sample-seconds", parsed.GetValue(SampleSeconds), 1e-6, MostSeconds),
            Between("--limit-seconds", parsed.GetValue(LimitSeconds), 0, MostSeconds), clock);
    }

    public int DegreeOf(ParseResult parsed) => Between("--degree", parsed.GetValue(Degree), 1, 64);

    public double BoundOf(ParseResult parsed) => Between("--bound", parsed.GetValue(Bound), 1e-6, 1e6);

    /// <summary>Whole numbers separated by commas.</summary>
    /// <exception cref="ArgumentException">Something else, or out of range.</exception>
    public static int[] Numbers(string option, string text, int least, int most)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        int[] numbers = new int[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (!int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out numbers[i])
                || numbers[i] < least || numbers[i] > most)
            {
                throw new ArgumentException(
                    $"{option} is '{text}'; whole numbers from {least} to {most}, separated by commas, are needed.");
            }
        }

        return numbers.Length > 0
            ? numbers
            : throw new ArgumentException($"{option} is empty; whole numbers separated by commas are needed.");
    }

    /// <summary>Words separated by commas, each one of those allowed.</summary>
    /// <exception cref="ArgumentException">Another word, or none.</exception>
    public static string[] List(string option, string text, params string[] allowed)
    {
        string[] words = text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return words.Length > 0 && words.All(allowed.Contains)
            ? words
            : throw new ArgumentException($"{option} is '{text}'; any of {string.Join(", ", allowed)}, separated by commas, is needed.");
    }

    public static string OneOf(string option, string word, params string[] allowed) => allowed.Contains(word)
        ? word
        : throw new ArgumentException($"{option} is '{word}'; one of {string.Join(", ", allowed)} is needed.");

    /// <exception cref="ArgumentException">Outside, or no number at all.</exception>
    public static T Between<T>(string option, T value, T least, T most)
        where T : IComparisonOperators<T, T, bool> => value >= least && value <= most
        ? value
        : throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"{option} is {value}; from {least} to {most} is needed."));
}
