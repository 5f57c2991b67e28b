using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Pass 2: forward, residual and dQ of every query from the moments alone, a block of queries in the lanes.</summary>
internal sealed unsafe class QueryRows<L, T> : MomentRows<L, T>
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // What a chunk of rows writes after its d × d share: loss, least row sum, its row, how many were not positive.
    private const int Extras = 4;

    private readonly AttentionProblem<T> _problem;
    private readonly FeaturePlan _plan;
    private readonly WeighedMoments<T> _moments;
    private readonly T* _queries;
    private readonly T* _residuals;
    private readonly GradientOutput<T> _output;
    private readonly int _n, _d, _columns, _valueFeatures;

    /// <param name="queries">Q, (n, d).</param>
    /// <param name="residuals">Where (c, −r) / D goes, (n, d + 1); null where nobody needs it.</param>
    public QueryRows(
        AttentionProblem<T> problem, LowRankChoice choice, FeaturePlan plan, WeighedMoments<T> moments, T* queries, T* residuals,
        GradientOutput<T> output, CancellationToken cancellation)
        : base(problem.N, choice, plan, moments, Extras, cancellation)
    {
        _problem = problem;
        _plan = plan;
        _moments = moments;
        _queries = queries;
        _residuals = residuals;
        _output = output;
        (_n, _d, _columns) = (problem.N, problem.D, problem.D + 1);
        _valueFeatures = choice.ValueFeatures;
    }

    /// <summary>Adds up the chunks' shares, and looks at the row sums.</summary>
    /// <param name="advice">What to do where row sums are not positive.</param>
    /// <exception cref="KernelFailure">A row sum was not positive.</exception>
    public void Finish(string advice)
    {
        double least = double.PositiveInfinity, row = 0, failures = 0;
        for (int chunk = 0; chunk < ChunkCount; chunk++)
        {
            double* extras = Share(chunk) + (_d * _d);
            if (double.IsNaN(extras[1]) ? !double.IsNaN(least) : extras[1] < least)
            {
                (least, row) = (extras[1], extras[2]);
            }

            failures += extras[3];
        }

        ReduceShares();
        double* sums = Share(0);
        for (int i = 0; i < _d * _d; i++)
        {
            _output.DX[i] = T.CreateTruncating(sums[i]);
        }

        _output.Loss = sums[_d * _d] / 2;
        _output.MinRowSumOverN = least / _n;
        _output.NonPositiveRowSums = (long)failures;
        if (failures > 0)
        {
            string sum = least.ToString("G3", CultureInfo.InvariantCulture);
            throw new KernelFailure(
                $"{failures} of {_n} row sums {(failures == 1 ? "is" : "are")} not positive (least {sum} at row {row}); "
                + $"{advice}.");
        }
    }

    protected override void Take()
    {
        int block = Tiles<L, T>.Block;
        long parents = _plan.Table.FirstOfDegree[_plan.Table.Degree], matrix = (long)_d * block;
        using AlignedBuffer<T> phi = new(_valueFeatures * (long)block), adjoint = new(parents * block);
        using AlignedBuffer<T> sums = new((long)_columns * block), near = AlignedBuffer<T>.Zeroed((long)_d * _d * L.Count);
        using AlignedBuffer<T> rest = new((4 * matrix) + block);
        T* x = rest.Start, gradient = x + matrix, targets = gradient + matrix, a1 = targets + matrix, reciprocals = a1 + matrix;
        SweepTables<T> tables = new(_moments.Slope, sums.Start, x, phi.Start, adjoint.Start, gradient, _columns);
        new Span<T>(phi.Start, block).Fill(T.One);
        int* children = stackalloc int[_d];
        fixed (T* a1Rows = _problem.A1, targetRows = _problem.E, forward = _output.Forward, dQ = _output.DQ)
        {
            for (int chunk = Next(); chunk >= 0; chunk = Next())
            {
                double* share = Share(chunk), extras = share + (_d * _d);
                extras[1] = double.PositiveInfinity;
                int end = Math.Min(_n, (chunk + 1) * RowsPerChunk), pending = 0;
                for (int i = chunk * RowsPerChunk; i < end; i += block)
                {
                    int rows = Math.Min(block, end - i);
                    long at = (long)i * _d;
                    Transpose(_queries + at, rows, x);
                    Transpose(targetRows + at, rows, targets);
                    Transpose(a1Rows + at, rows, a1);
                    Values(x, phi.Start, sums.Start);
                    Reciprocals(i, rows, sums.Start + ((long)_d * block), reciprocals, extras);
                    extras[0] += Residuals(sums.Start, reciprocals, targets);
                    TransposeBack(targets, rows, _d, forward + at);
                    new Span<T>(gradient, _d * block).Clear();
                    Sweep(in tables, children);
                    Scale(gradient, _d, reciprocals);
                    AddShare(a1, gradient, near.Start);
                    if (dQ != null)
                    {
                        TransposeBack(gradient, rows, _d, dQ + at);
                    }

                    if (_residuals != null)
                    {
                        Scale(sums.Start, _columns, reciprocals);
                        TransposeBack(sums.Start, rows, _columns, _residuals + ((long)i * _columns));
                    }

                    if (++pending == FlushBlocks || i + block >= end)
                    {
                        Flush(near.Start, share);
                        pending = 0;
                    }
                }
            }
        }
    }

    /// <summary>Looks at the row sums, D. Returns their reciprocals; 0 for a row whose D is not positive.</summary>
    private void Reciprocals(int first, int rows, T* rowSums, T* reciprocals, double* extras)
    {
        for (int r = 0; r < rows; r++)
        {
            double rowSum = double.CreateTruncating(rowSums[r]);
            if (double.IsNaN(rowSum) ? !double.IsNaN(extras[1]) : rowSum < extras[1])
            {
                (extras[1], extras[2]) = (rowSum, first + r);
            }

            bool positive = rowSum > 0;
            extras[3] += positive ? 0 : 1;
            reciprocals[r] = positive ? T.One / rowSums[r] : T.Zero;
        }

        for (int r = rows; r < Tiles<L, T>.Block; r++)
        {
            reciprocals[r] = T.Zero;
        }
    }

    /// <summary>Turns (F D, D) into (c, −r) in place, and E into F. Returns Σ c².</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private double Residuals(T* sums, T* reciprocals, T* targets)
    {
        int block = Tiles<L, T>.Block;
        double loss = 0;
        for (int v = 0; v < block; v += L.Count)
        {
            L rowSum = L.Load(sums + (_d * block) + v), reciprocal = L.Load(reciprocals + v);
            L minusDot = L.Zero, squares = L.Zero;
            for (int k = 0; k < _d; k++)
            {
                // A step of Newton's gives the quotient its last digits, and the residual more than those.
                T* at = sums + (k * block) + v;
                L sum = L.Load(at), quotient = sum * reciprocal;
                L rest = L.MulAdd(L.Zero - quotient, rowSum, sum) * reciprocal, forward = quotient + rest;
                L c = (quotient - L.Load(targets + (k * block) + v)) + rest;
                forward.Store(targets + (k * block) + v);
                c.Store(at);
                minusDot = L.MulAdd(L.Zero - c, forward, minusDot);
                squares = L.MulAdd(c, c, squares);
            }

            minusDot.Store(sums + (_d * block) + v);
            loss += double.CreateTruncating(L.Sum(squares));
        }

        return loss;
    }
}
