using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>A folder of a1, a2, a3, e, x, y .npy: one gradient's own matrices.</summary>
public static class NpyFolder
{
    /// <summary>Reads the six matrices, widened to double. x and y are the identity where their files are absent.</summary>
    /// <returns>The problem, and the widest precision found: 4 if every file is float32, else 8.</returns>
    /// <exception cref="InvalidDataException">A file is missing or wrong; the message is one sentence for a person.</exception>
    public static (AttentionProblem<double> Problem, int BytesPerNumber) Load(string folder)
    {
        NpyProblems loaded = Load(folder, mostStacked: 0);
        return (loaded.Problems[0], loaded.BytesPerNumber);
    }

    /// <summary>The same for several problems of one shape: a1, a2, a3 and e of shape (batch, n, d) or (batch, heads, n, d), x and y
    /// either so stacked or (d, d), one for all.</summary>
    /// <exception cref="InvalidDataException">A file is missing or wrong.</exception>
    public static NpyProblems LoadStack(string folder) => Load(folder, mostStacked: 2);

    private static NpyProblems Load(string folder, int mostStacked)
    {
        if (!Directory.Exists(folder))
        {
            throw new InvalidDataException(
                $"{folder} is not a folder. Name one that holds a1.npy, a2.npy, a3.npy, e.npy, x.npy and y.npy.");
        }

        NpyFile a1 = NpyFile.Open(Path.Combine(folder, "a1.npy"), mostStacked);
        NpyFile[] tall = [a1, Tall("a2"), Tall("a3"), Tall("e")];
        NpyFile?[] square = [Square("x"), Square("y")];
        double[]?[] shared = [.. square.Select(f => f is null ? Identity(a1.Columns) : f.Stack.Count == 0 ? f.ReadAll() : null)];
        AttentionProblem<double>[] problems = new AttentionProblem<double>[a1.Count];
        for (int i = 0; i < problems.Length; i++)
        {
            double[][] m = [.. tall.Select(f => f.ReadOne(i)), .. square.Select((f, which) => shared[which] ?? f!.ReadOne(i))];
            problems[i] = new(a1.Rows, a1.Columns, m[0], m[1], m[2], m[3], m[4], m[5]);
        }

        return new NpyProblems(problems, a1.Stack, tall.Concat(square).Max(f => f?.BytesPerNumber ?? 0));

        NpyFile Tall(string name) => Open(name, a1.Rows, "n", mayBeShared: false);

        NpyFile? Square(string name) =>
            Path.Exists(Path.Combine(folder, name + ".npy")) ? Open(name, a1.Columns, "d", mayBeShared: true) : null;

        NpyFile Open(string name, int rows, string letter, bool mayBeShared)
        {
            NpyFile file = NpyFile.Open(Path.Combine(folder, name + ".npy"), mostStacked);
            return file.Rows == rows && file.Columns == a1.Columns
                && (file.Stack.SequenceEqual(a1.Stack) || (mayBeShared && file.Stack.Count == 0))
                ? file
                : throw new InvalidDataException(
                    $"{file.Path} has shape ({Shape(file.Stack, file.Rows, file.Columns)}); a1.npy has "
                    + $"({Shape(a1.Stack, a1.Rows, a1.Columns)}), so {name} must be ({(a1.Stack.Count == 0 ? "" : "…, ")}{letter}, d) = "
                    + $"({Shape(a1.Stack, rows, a1.Columns)}).");
        }

        static string Shape(IReadOnlyList<int> stack, int rows, int columns) => string.Join(", ", [.. stack, rows, columns]);
    }

    internal static double[] Identity(int d)
    {
        if ((long)d * d > Array.MaxLength)
        {
            throw new InvalidDataException(
                $"d is {d}, and X and Y have d × d numbers, more than one array holds. Slice the columns, or check that the files are (n, d).");
        }

        double[] identity = new double[d * d];
        for (int k = 0; k < d; k++)
        {
            identity[(k * d) + k] = 1;
        }

        return identity;
    }
}

/// <summary>The problems of a folder, all of one shape.</summary>
/// <param name="Stack">The sizes before (n, d), such as batch and heads; none for a lone problem.</param>
/// <param name="BytesPerNumber">The widest found: 4 if every file is float32, else 8.</param>
public sealed record NpyProblems(IReadOnlyList<AttentionProblem<double>> Problems, IReadOnlyList<int> Stack, int BytesPerNumber);
