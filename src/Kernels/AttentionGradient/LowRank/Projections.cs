using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Before the moments: Q = A1 X, the mean key, and how far queries and keys reach.</summary>
internal sealed unsafe class Projections<T> : Chunks, IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // Rows at a time between two looks at the token.
    private const int Step = 256;
    private const int RowsPerChunk = 1024;

    private readonly AttentionProblem<T> _problem;
    private readonly bool _centred, _moments;
    private readonly int _n, _d, _width, _chunks;
    private readonly AlignedBuffer<double> _right, _queryExtents, _keyExtents, _keySums, _queryMoments, _keyMoments;
    private readonly AlignedBuffer<T> _queries;
    private readonly CancellationToken _cancellation;
    private bool _haveMean;

    /// <param name="moments">Whether <see cref="LogitMoments"/> will be asked for.</param>
    public Projections(AttentionProblem<T> problem, bool centred, bool moments, CancellationToken cancellation)
    {
        _moments = moments;
        _problem = problem;
        _centred = centred;
        _cancellation = cancellation;
        (_n, _d) = (problem.N, problem.D);
        _width = RowProducts.Padded(_d);
        _chunks = (_n + RowsPerChunk - 1) / RowsPerChunk;
        _right = RowProducts.Widen(problem.X, _d);
        _queryExtents = AlignedBuffer<double>.Zeroed((long)_chunks * Extent.Length(_d));
        _keyExtents = AlignedBuffer<double>.Zeroed((long)_chunks * Extent.Length(_d));
        _keySums = AlignedBuffer<double>.Zeroed((long)_chunks * _width);
        long moment = moments ? (_d + 1L) * _width : 0;
        _queryMoments = AlignedBuffer<double>.Zeroed(_chunks * moment);
        _keyMoments = AlignedBuffer<double>.Zeroed(_chunks * moment);
        _queries = new((long)_n * _d);
    }

    /// <summary>Q, (n, d).</summary>
    public T* Queries => _queries.Start;

    /// <summary>The mean of the keys, padded, or zeros where they are not to be centred.</summary>
    public double* MeanKey => _keySums.Start;

    /// <summary>A bound on every |logit|, of centred keys where they are to be; NaN or infinite if an input is.</summary>
    public double Bound => Extent.Bound(_queryExtents.Start, _keyExtents.Start, _d);

    public void Run(int threads)
    {
        Run(_chunks, threads, _cancellation);
        ReduceTree(new(MeanKey, _chunks * _width), _chunks, _width);
        for (int k = 0; k < _d; k++)
        {
            MeanKey[k] /= _n;
        }

        _haveMean = true;
        Run(_chunks, threads, _cancellation);
        for (int chunk = 1; chunk < _chunks; chunk++)
        {
            Extent.Join(_queryExtents.Start, _queryExtents.Start + ((long)chunk * Extent.Length(_d)), _d);
            Extent.Join(_keyExtents.Start, _keyExtents.Start + ((long)chunk * Extent.Length(_d)), _d);
        }
    }

    /// <summary>Mean and standard deviation of all n² logits, in O(n d²).</summary>
    /// <remarks>Σ_ij q_i·κ_j = (Σ q)·(Σ κ), and Σ_ij (q_i·κ_j)² is the sum of the entries of Σ q qᵀ times those of Σ κ κᵀ.</remarks>
    public (double Mean, double Deviation) LogitMoments()
    {
        int length = (_d + 1) * _width;
        ReduceTree(new(_queryMoments.Start, _chunks * length), _chunks, length);
        ReduceTree(new(_keyMoments.Start, _chunks * length), _chunks, length);
        double sum = 0, squares = 0, pairs = (double)_n * _n;
        for (int i = 0; i < length; i++)
        {
            double product = _queryMoments.Start[i] * _keyMoments.Start[i];
            (sum, squares) = i < _width ? (sum + product, squares) : (sum, squares + product);
        }

        double mean = sum / pairs;
        return (mean, Math.Sqrt(Math.Max(0, (squares / pairs) - (mean * mean))));
    }

    public void Dispose()
    {
        _queryMoments.Dispose();
        _keyMoments.Dispose();
        _right.Dispose();
        _queryExtents.Dispose();
        _keyExtents.Dispose();
        _keySums.Dispose();
        _queries.Dispose();
    }

    protected override void Take()
    {
        using AlignedBuffer<double> wide = AlignedBuffer<double>.Zeroed(2L * Step * _width);
        double* product = wide.Start + ((long)Step * _width);
        fixed (T* a1 = _problem.A1, a2 = _problem.A2)
        {
            for (int chunk = Next(); chunk >= 0; chunk = Next())
            {
                int end = Math.Min(_n, (chunk + 1) * RowsPerChunk);
                for (int i = chunk * RowsPerChunk; i < end; i += Step)
                {
                    _cancellation.ThrowIfCancellationRequested();
                    int rows = Math.Min(Step, end - i);
                    long at = (long)i * _d, extent = (long)chunk * Extent.Length(_d);
                    if (_haveMean)
                    {
                        RowProducts.Widen(a2 + at, rows, _d, wide.Start);
                        RowProducts.Centre(wide.Start, rows, _d, MeanKey, _problem.Divisor);
                        Extent.Widen(_keyExtents.Start + extent, wide.Start, rows, _d);
                        if (_moments)
                        {
                            RowProducts.Moments(wide.Start, rows, _d, _keyMoments.Start + ((long)chunk * (_d + 1) * _width));
                        }

                        continue;
                    }

                    RowProducts.Widen(a1 + at, rows, _d, wide.Start);
                    RowProducts.Multiply<T>(wide.Start, rows, _d, _right.Start, product);
                    Extent.Widen(_queryExtents.Start + extent, product, rows, _d);
                    RowProducts.Round(product, rows, _d, Queries + at, _d);
                    if (_moments)
                    {
                        RowProducts.Moments(product, rows, _d, _queryMoments.Start + ((long)chunk * (_d + 1) * _width));
                    }

                    if (_centred)
                    {
                        RowProducts.Widen(a2 + at, rows, _d, wide.Start);
                        RowProducts.Sum(wide.Start, rows, _d, _keySums.Start + ((long)chunk * _width));
                    }
                }
            }
        }
    }
}
