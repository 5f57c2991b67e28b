using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>dK = pᵀ Q / divisor and dV = fᵀ c in twice the digits, after <see cref="PreciseRows"/>: blocks of keys, each of which runs through all rows,
/// so that no thread adds to what another has.</summary>
internal sealed unsafe class PreciseKeys(
    AttentionProblem<double> problem, PreciseOperands operands, PreciseFacts facts, GradientOutput<double> output,
    CancellationToken cancellation) : Chunks
{
    public const int KeysPerChunk = 32;

    private readonly int _d = problem.D;

    public int ChunkCount => (operands.Keys + KeysPerChunk - 1) / KeysPerChunk;

    protected override void Take()
    {
        using AlignedBuffer<double> scratch = new(((4L * _d) + 4) * KeysPerChunk);
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            int first = chunk * KeysPerChunk, count = Math.Min(KeysPerChunk, operands.Keys - first);
            double* at = scratch.Start;
            PreciseVector Vector()
            {
                at += 2 * KeysPerChunk;
                return new(at - (2 * KeysPerChunk), count);
            }

            PreciseVector f = Vector(), p = Vector();
            PreciseVector[] dK = new PreciseVector[_d], dV = new PreciseVector[_d];
            for (int k = 0; k < _d; k++)
            {
                (dK[k], dV[k]) = (Vector(), Vector());
                dK[k].Clear();
                dV[k].Clear();
            }

            for (int row = problem.Causal ? first : 0; row < facts.Count; row++)
            {
                cancellation.ThrowIfCancellationRequested();
                Row(row, first, f, p, dK, dV);
            }

            for (int j = 0; j < Math.Min(count, problem.N - first); j++)
            {
                for (int k = 0; k < _d; k++)
                {
                    long to = ((long)(first + j) * _d) + k;
                    output.DK?[to] = (double)dK[k][j];
                    output.DV?[to] = (double)dV[k][j];
                }
            }
        }
    }

    private void Row(int row, int first, PreciseVector f, PreciseVector p, PreciseVector[] dK, PreciseVector[] dV)
    {
        f.Clear();
        for (int k = 0; k < _d; k++)
        {
            f.AddProduct(facts.Query(row, k), operands.Key(k).From(first));
        }

        f.TakeExponentials(facts.Largest(row), (problem.Causal ? row + 1 : problem.N) - first);
        DoubleDouble over = DoubleDouble.One / facts.RowSum(row);
        int star = facts.Star(row);
        p.Fill(-facts.Offset(row));
        for (int k = 0; k < _d; k++)
        {
            p.AddProduct(facts.Residual(row, k), operands.Value(k).Slice(first, f.Length), operands.Value(k)[star]);
        }

        p.MultiplyBy(f);
        for (int k = 0; k < _d; k++)
        {
            dK[k].AddProduct(facts.Query(row, k) * over, p, DoubleDouble.Zero);
            dV[k].AddProduct(facts.Residual(row, k) * over, f, DoubleDouble.Zero);
        }
    }
}
