using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Pass 4, where dK or dV is asked for: dV, dK and dY from the moments of the queries alone, a block of keys in the lanes.</summary>
/// <remarks>
/// dV_j = Σ_β a_|β| W_β κ_j^β N_β,c;  dκ_j = ∇_κ Σ_β b̂_|β| W_β κ_j^β (h_j·N_β,c − N_β,r);  dK = dκ / divisor;  dY = A3ᵀ dV. The mean key is a
/// function of the keys, so dκ less its own mean row is the gradient by them. In the paper's form that mean is 0 but for rounding.
/// </remarks>
internal sealed unsafe class KeyRows<L, T> : MomentRows<L, T>
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly AttentionProblem<T> _problem;
    private readonly KeyOperands<T> _keys;
    private readonly FeaturePlan _plan;
    private readonly WeighedMoments<T> _moments;
    private readonly GradientOutput<T> _output;
    private readonly CancellationToken _cancellation;
    private readonly int _n, _d, _columns, _valueFeatures;
    private readonly bool _throughMean;
    private double[]? _mean;

    /// <param name="moments">Those of the queries.</param>
    public KeyRows(
        AttentionProblem<T> problem, LowRankChoice choice, FeaturePlan plan, WeighedMoments<T> moments, KeyOperands<T> keys,
        GradientOutput<T> output, CancellationToken cancellation)
        : base(problem.N, choice, plan, moments, extras: problem.D, cancellation)
    {
        _problem = problem;
        _keys = keys;
        _plan = plan;
        _moments = moments;
        _output = output;
        _cancellation = cancellation;
        (_n, _d, _columns) = (problem.N, problem.D, problem.D + 1);
        _valueFeatures = choice.ValueFeatures;
        _throughMean = choice.Centred && choice.Reverse && output.DK is not null;
    }

    /// <summary>Computes them all.</summary>
    public void Run(int threads)
    {
        Run(ChunkCount, threads, _cancellation);
        ReduceShares();
        double* sums = Share(0);
        for (int i = 0; i < _d * _d; i++)
        {
            _output.DY[i] = T.CreateTruncating(sums[i]);
        }

        if (_throughMean)
        {
            _mean = new double[_d];
            for (int k = 0; k < _d; k++)
            {
                _mean[k] = sums[(_d * _d) + k] / _n;
            }

            Run(ChunkCount, threads, _cancellation);
        }
    }

    protected override void Take()
    {
        if (_mean is double[] mean)
        {
            SubtractFromKeys(mean);
            return;
        }

        int block = Tiles<L, T>.Block;
        bool slopes = _output.DK is not null;
        long parents = slopes ? _plan.Table.FirstOfDegree[_plan.Table.Degree] : 0, matrix = (long)_d * block;
        using AlignedBuffer<T> phi = new(_valueFeatures * (long)block), adjoint = new(parents * block);
        using AlignedBuffer<T> sums = new((long)_columns * block), factors = new((long)_columns * block);
        using AlignedBuffer<T> near = AlignedBuffer<T>.Zeroed((long)_d * _d * L.Count), rest = new((5 * matrix) + block);
        using AlignedBuffer<double> wide = AlignedBuffer<double>.Zeroed(2L * block * RowProducts.Padded(_d));
        T* x = rest.Start, gradient = x + matrix, a3 = gradient + matrix, keys = a3 + matrix, values = keys + matrix;
        T* scale = values + matrix;
        SweepTables<T> tables = new(_moments.Slope, factors.Start, x, phi.Start, adjoint.Start, gradient, _columns);
        new Span<T>(phi.Start, block).Fill(T.One);
        new Span<T>(scale, block).Fill(T.CreateTruncating(1 / _problem.Divisor));
        int* children = stackalloc int[_d];
        fixed (T* a3Rows = _problem.A3, dK = _output.DK, dV = _output.DV)
        {
            for (int chunk = Next(); chunk >= 0; chunk = Next())
            {
                double* share = Share(chunk);
                int end = Math.Min(_n, (chunk + 1) * RowsPerChunk), pending = 0;
                for (int j = chunk * RowsPerChunk; j < end; j += block)
                {
                    int rows = Math.Min(block, end - j);
                    long at = (long)j * _d;
                    _keys.Load(j, rows, keys, _d, values, _d, wide.Start);
                    Transpose(keys, rows, x);
                    Transpose(a3Rows + at, rows, a3);
                    Values(x, phi.Start, sums.Start);
                    AddShare(a3, sums.Start, near.Start);
                    if (dV != null)
                    {
                        TransposeBack(sums.Start, rows, _d, dV + at);
                    }

                    if (slopes)
                    {
                        Transpose(values, rows, factors.Start);
                        new Span<T>(factors.Start + matrix, block).Fill(T.One);
                        new Span<T>(gradient, _d * block).Clear();
                        Sweep(in tables, children);
                        Scale(gradient, _d, scale);
                        TransposeBack(gradient, rows, _d, dK + at);
                        AddRows(dK + at, rows, share + (_d * _d));
                    }

                    if (++pending == FlushBlocks || j + block >= end)
                    {
                        Flush(near.Start, share);
                        pending = 0;
                    }
                }
            }
        }
    }

    /// <summary>sum += every row.</summary>
    private void AddRows(T* rows, int count, double* sum)
    {
        for (int r = 0; r < count && _throughMean; r++, rows += _d)
        {
            for (int k = 0; k < _d; k++)
            {
                sum[k] += double.CreateTruncating(rows[k]);
            }
        }
    }

    private void SubtractFromKeys(double[] mean)
    {
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            int end = Math.Min(_n, (chunk + 1) * RowsPerChunk);
            for (int j = chunk * RowsPerChunk; j < end; j++)
            {
                Span<T> row = _output.DK.AsSpan(checked(j * _d), _d);
                for (int k = 0; k < _d; k++)
                {
                    row[k] = T.CreateTruncating(double.CreateTruncating(row[k]) - mean[k]);
                }
            }
        }
    }
}
