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
        NpyProblems files = Open(folder, mostStacked: 0);
        return (files.Load()[0], files.BytesPerNumber);
    }

    /// <summary>Reads the headers, and no number yet, of several problems of one shape: a1, a2, a3 and e of shape (batch, n, d) or
    /// (batch, heads, n, d), x and y either so stacked or (d, d), one for all.</summary>
    /// <exception cref="InvalidDataException">A file is missing or wrong.</exception>
    public static NpyProblems OpenStack(string folder) => Open(folder, mostStacked: 2);

    private static NpyProblems Open(string folder, int mostStacked)
    {
        if (!Directory.Exists(folder))
        {
            throw new InvalidDataException(
                $"{folder} is not a folder. Name one that holds a1.npy, a2.npy, a3.npy, e.npy, x.npy and y.npy.");
        }

        NpyFile a1 = NpyFile.Open(Path.Combine(folder, "a1.npy"), mostStacked);
        return new NpyProblems([a1, Tall("a2"), Tall("a3"), Tall("e")], [Square("x"), Square("y")]);

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

/// <summary>The problems of a folder, all of one shape: what the headers say of them, and then their numbers.</summary>
public sealed class NpyProblems
{
    private readonly NpyFile[] _tall;
    private readonly NpyFile?[] _square;

    internal NpyProblems(NpyFile[] tall, NpyFile?[] square)
    {
        _tall = tall;
        _square = square;
    }

    public int N => _tall[0].Rows;

    public int D => _tall[0].Columns;

    /// <summary>The sizes before (n, d), such as batch and heads; none for a lone problem.</summary>
    public IReadOnlyList<int> Stack => _tall[0].Stack;

    /// <summary>How many problems there are.</summary>
    public int Count => _tall[0].Count;

    /// <summary>The widest found: 4 if every file is float32, else 8.</summary>
    public int BytesPerNumber => _tall.Concat(_square).Max(f => f?.BytesPerNumber ?? 0);

    /// <summary>Reads all numbers, widened to double.</summary>
    /// <exception cref="InvalidDataException">One is not finite, or a file has changed.</exception>
    public AttentionProblem<double>[] Load()
    {
        double[]?[] shared = [.. _square.Select(f => f is null ? NpyFolder.Identity(D) : f.Stack.Count == 0 ? f.ReadAll() : null)];
        AttentionProblem<double>[] problems = new AttentionProblem<double>[Count];
        for (int i = 0; i < problems.Length; i++)
        {
            double[][] m = [.. _tall.Select(f => f.ReadOne(i)), .. _square.Select((f, which) => shared[which] ?? f!.ReadOne(i))];
            problems[i] = new(N, D, m[0], m[1], m[2], m[3], m[4], m[5]);
        }

        return problems;
    }
}
