using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>Queries, keys and h = A3 Y as the rivals read them: scaled, the keys centred where asked, in the precision of the
/// call, (n, d) row-major.</summary>
internal sealed class Operands<T> : IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly double[] _wideQ, _wideH, _low;

    /// <param name="problem">The instance.</param>
    /// <param name="queryDivisor">Queries are (A1 X) / queryDivisor.</param>
    /// <param name="keyDivisor">Keys are (A2 − mean) / keyDivisor; the two divisors multiply to the scale of the logits.</param>
    /// <param name="centred">Whether the mean key is subtracted first.</param>
    /// <param name="cancellation">Looked at every thousand rows.</param>
    /// <exception cref="ArgumentException">The problem is causal, which no rival is.</exception>
    /// <exception cref="KernelFailure">A query or a key is not finite.</exception>
    public Operands(
        AttentionProblem<T> problem, double queryDivisor, double keyDivisor, bool centred, CancellationToken cancellation)
    {
        if (problem.Causal)
        {
            throw new ArgumentException(
                "The problem is causal: every row sees other keys, and this kernel sums over all of them at once. Use exact or "
                + "reference.");
        }

        Problem = problem;
        N = problem.N;
        D = problem.D;
        QueryDivisor = queryDivisor;
        int wide = Projection.Padded(D);
        _wideQ = ScratchMemory.Rent<double>(checked(N * wide));
        _wideH = ScratchMemory.Rent<double>(N * wide);
        _low = ScratchMemory.Rent<double>(N * wide);
        Q = ScratchMemory.Rent<T>(N * D);
        H = ScratchMemory.Rent<T>(N * D);
        Keys = ScratchMemory.Rent<T>(N * D);
        MeanKey = new double[D];
        const int Step = 1024;
        for (int first = 0; first < N; first += Step)
        {
            cancellation.ThrowIfCancellationRequested();
            int rows = Math.Min(Step, N - first);
            Projection.Multiply(problem.A1, problem.X, first, rows, D, _wideQ, _low);
            Projection.Multiply(problem.A3, problem.Y, first, rows, D, _wideH, _low);
        }

        if (centred)
        {
            for (int j = 0; j < N; j++)
            {
                for (int k = 0; k < D; k++)
                {
                    MeanKey[k] += double.CreateTruncating(problem.A2[(j * D) + k]);
                }
            }

            for (int k = 0; k < D; k++)
            {
                MeanKey[k] /= N;
            }
        }

        double[] mostQ = new double[D], mostKey = new double[D];
        double longestQ = 0;
        for (int i = 0; i < N; i++)
        {
            double squareQ = 0, squareKey = 0;
            for (int k = 0; k < D; k++)
            {
                double q = _wideQ[(i * wide) + k] / queryDivisor;
                double key = (double.CreateTruncating(problem.A2[(i * D) + k]) - MeanKey[k]) / keyDivisor;
                Q[(i * D) + k] = T.CreateTruncating(q);
                H[(i * D) + k] = T.CreateTruncating(_wideH[(i * wide) + k]);
                Keys[(i * D) + k] = T.CreateTruncating(key);
                mostQ[k] = Math.Max(mostQ[k], Math.Abs(q));
                mostKey[k] = Math.Max(mostKey[k], Math.Abs(key));
                squareQ += q * q;
                squareKey += key * key;
            }

            longestQ = Math.Max(longestQ, squareQ);
            LongestKeySquare = Math.Max(LongestKeySquare, squareKey);
        }

        double byColumns = 0;
        for (int k = 0; k < D; k++)
        {
            byColumns += mostQ[k] * mostKey[k];
        }

        LogitBound = Math.Min(byColumns, Math.Sqrt(longestQ) * Math.Sqrt(LongestKeySquare));
        if (!double.IsFinite(LogitBound))
        {
            Dispose();
            throw new KernelFailure("The bound on the logits is not finite: an input is not, or entries are too large.");
        }
    }

    public AttentionProblem<T> Problem { get; }

    public int N { get; }

    public int D { get; }

    /// <summary>dX = A1ᵀ dQ over this.</summary>
    public double QueryDivisor { get; }

    public T[] Q { get; }

    public T[] H { get; }

    public T[] Keys { get; }

    /// <summary>The mean row of A2, not divided; zeros where keys are not centred.</summary>
    public double[] MeanKey { get; }

    /// <summary>A bound on every |logit|, by the data in O(n d): the lesser of Σ_c max|q_c| max|κ_c| and max‖q‖ max‖κ‖.</summary>
    public double LogitBound { get; }

    /// <summary>max ‖κ‖².</summary>
    public double LongestKeySquare { get; }

    public void Dispose()
    {
        ScratchMemory.Return(_wideQ);
        ScratchMemory.Return(_wideH);
        ScratchMemory.Return(_low);
        ScratchMemory.Return(Q);
        ScratchMemory.Return(H);
        ScratchMemory.Return(Keys);
    }

    /// <summary>Bytes of operands for a shape, for predictions.</summary>
    public static double Bytes(int n, int d, int bytesPerNumber) =>
        (8 * 3.0 * n * Projection.Padded(d)) + (3.0 * n * d * bytesPerNumber);
}
