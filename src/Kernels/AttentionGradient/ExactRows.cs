using System.Numerics;
using Experiments.Kernels.AttentionGradient.Exact;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>The exact gradient's terms of chosen rows, against all keys: what a kernel's rows are compared with where the whole
/// is too dear.</summary>
/// <remarks>
/// By <see cref="ExactGradient"/>'s own code. The output has as many rows as were chosen: Forward and DQ are those rows', and DX, DY and
/// Loss the sums over them. dK and dV are sums over all rows and are not given.
/// Cost      O(rows n d).
/// </remarks>
/// <param name="rows">Numbers of rows, ascending, none twice; the same of each problem.</param>
public sealed class ExactRows(int[] rows) : IGradientKernel
{
    public string Name => "exact-rows";

    public string Summary => "The exact gradient's terms of chosen rows.";

    public IReadOnlyList<Axis> Axes { get; } = [];

    public bool TakesMask => true;

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) =>
        Predict(n, rows.Length, d, bytesPerNumber, threads);

    /// <summary>What <paramref name="rows"/> rows of n will cost, whichever they are.</summary>
    /// <exception cref="ArgumentException">n is too large for <see cref="ExactGradient"/>.</exception>
    public static KernelCost Predict(int n, int rows, int d, int bytesPerNumber, int threads)
    {
        KernelCost whole = new ExactGradient().Predict(n, d, bytesPerNumber, threads, Settings.None);
        double bytes = bytesPerNumber == sizeof(float)
            ? ExactGradient.Bytes<float>(n, rows, d, threads) : ExactGradient.Bytes<double>(n, rows, d, threads);
        return new(whole.Flops * rows / n, bytes + (2.0 * rows * d * bytesPerNumber), null);
    }

    /// <exception cref="ArgumentException">A row that the problem has not, rows out of order, an output of another shape, or one that asks
    /// for dK or dV.</exception>
    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int i = 0; i < rows.Length; i++)
        {
            if (rows[i] <= (i == 0 ? -1 : rows[i - 1]) || rows[i] >= problem.N)
            {
                throw new ArgumentException(
                    $"Row {i} of the sample is {rows[i]}: rows of a problem of {problem.N} are needed, ascending, none twice.");
            }
        }

        if (output.Forward.LongLength != (long)rows.Length * problem.D || output.DK is not null || output.DV is not null)
        {
            throw new ArgumentException(
                $"The output must have {rows.Length} rows of {problem.D}, one for each that was chosen, and no dK or dV, which need all rows.");
        }

        ExactGradient.Compute(problem, new RowSet<T>(problem, rows), output, context);
    }
}
