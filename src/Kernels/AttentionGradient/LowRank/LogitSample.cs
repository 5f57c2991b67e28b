using System.Numerics;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Some logits, the same in every run: all of a small problem's, else 4096 of them.</summary>
internal static unsafe class LogitSample
{
    public const int Most = 4096;

    // Numbers of their own, which no instance's streams touch.
    private const ulong Key = 0x10_67_17_5A_4D_91_1E_55;
    private const uint Stream = 0x4C5351;

    public static int Count(int n) => (long)n * n <= Most ? n * n : Most;

    /// <summary>The row and the key of a logit of the sample.</summary>
    public static (int Row, int Key) Pair(int n, int index)
    {
        if ((long)n * n <= Most)
        {
            return (index / n, index % n);
        }

        // The upper half of a product with n is uniform below n, to n / 2^32.
        ulong bits = Philox.Bits(Key, Stream, (ulong)index);
        return ((int)(((bits >> 32) * (ulong)n) >> 32), (int)(((bits & uint.MaxValue) * (ulong)n) >> 32));
    }

    /// <param name="queries">Q, (n, d).</param>
    public static double[] Draw<T>(AttentionProblem<T> problem, T* queries, double* meanKey)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int d = problem.D;
        double[] logits = new double[Count(problem.N)];
        for (int index = 0; index < logits.Length; index++)
        {
            (int row, int key) = Pair(problem.N, index);
            double sum = 0;
            for (int k = 0; k < d; k++)
            {
                double centred = double.CreateTruncating(problem.A2[((long)key * d) + k]) - meanKey[k];
                sum += double.CreateTruncating(queries[((long)row * d) + k]) * centred;
            }

            logits[index] = sum / problem.Divisor;
        }

        return logits;
    }
}
