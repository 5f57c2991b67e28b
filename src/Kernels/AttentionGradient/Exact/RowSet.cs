using System.Numerics;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>The rows that a call is about: all of a problem's, or chosen ones, gathered. Keys are always all of them.</summary>
internal sealed class RowSet<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int[]? _chosen;

    public RowSet(AttentionProblem<T> problem) => (Count, A1, E) = (problem.N, problem.A1, problem.E);

    /// <param name="chosen">Numbers of rows, ascending, none twice.</param>
    public RowSet(AttentionProblem<T> problem, int[] chosen)
    {
        _chosen = chosen;
        Count = chosen.Length;
        A1 = Gather(problem.A1, chosen, problem.D);
        E = Gather(problem.E, chosen, problem.D);
    }

    public int Count { get; }

    /// <summary>(Count, d), row-major.</summary>
    public T[] A1 { get; }

    /// <summary>(Count, d), row-major.</summary>
    public T[] E { get; }

    /// <summary>Which row of the problem it is; beyond the last, as if there were more of them.</summary>
    public int PlaceOf(int row) => _chosen is null ? row : _chosen[Math.Min(row, _chosen.Length - 1)];

    /// <summary>The same rows of the same problem in another precision.</summary>
    public RowSet<TTo> Of<TTo>(AttentionProblem<TTo> problem)
        where TTo : unmanaged, IBinaryFloatingPointIeee754<TTo> => _chosen is null ? new(problem) : new(problem, _chosen);

    /// <summary>Pairs of a row and a key that it sees.</summary>
    public double Pairs(AttentionProblem<T> problem) => !problem.Causal
        ? (double)Count * problem.N
        : _chosen is null ? (double)Count * (Count + 1) / 2 : _chosen.Sum(row => row + 1.0);

    private static T[] Gather(T[] values, int[] chosen, int d)
    {
        T[] gathered = new T[checked(chosen.Length * d)];
        for (int i = 0; i < chosen.Length; i++)
        {
            Array.Copy(values, (long)chosen[i] * d, gathered, (long)i * d, d);
        }

        return gathered;
    }
}
