using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>The gradients with respect to K = A2 and V = h: blocks of keys in the lanes, rows streamed past them.</summary>
/// <remarks>
/// dV_j = Σ_i f_ij c_i and dK_j = Σ_i p_ij q_i / divisor are sums over rows, so the roles of rows and keys change: again four products
/// and one exponential a pair, each key's sums run over the rows in their order, and no thread adds to what another has.
/// <see cref="LaneRows{V,T}"/> leaves what a row needs in <see cref="RowsForKeys{T}"/>; a dominated row is left there as zeros.
/// </remarks>
internal sealed unsafe class KeyColumns<V, T>(
    AttentionProblem<T> problem, GradientOutput<T> output, T* keys, T* values, int stride, RowsForKeys<T> rows,
    CancellationToken cancellation) : Chunks
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Tile = 64;
    private const int Span = 512;
    private const double Log2 = 0.6931471805599453;

    private readonly int _n = problem.N, _d = problem.D;

    private static int Width => Tiles<V, T>.Width;

    public int ChunkCount => (_n + Width - 1) / Width;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void Take()
    {
        int depth = _d + 1;
        using AlignedBuffer<T> memory = new((((long)2 * Tile) + (2 * depth) + (4 * stride) + 2) * Width);
        T* e = memory.Start, p = e + ((long)Tile * Width), key = p + ((long)Tile * Width), value = key + ((long)depth * Width);
        T* sums = value + ((long)depth * Width), part = sums + (2L * stride * Width), zero = part + (2L * stride * Width);
        T* unwanted = zero + Width;
        new Span<T>(zero, Width).Clear();
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            int first = chunk * Width, count = Math.Min(Width, _n - first);
            Turn(keys, first, count, key);
            Turn(values, first, count, value);
            new Span<T>(sums, 2 * stride * Width).Clear();
            for (int span = problem.Causal ? first : 0; span < _n; span += Span)
            {
                cancellation.ThrowIfCancellationRequested();
                new Span<T>(part, 2 * stride * Width).Clear();
                int end = Math.Min(_n, span + Span);
                for (int row = span; row < end; row += Tile)
                {
                    int tile = Math.Min(Tile, end - row);
                    long at = (long)row * stride, deep = (long)row * depth;
                    Tiles<V, T>.Dot<Plain<V, T>>(rows.Queries + deep, depth, tile, key, depth, zero, e, e);
                    Tiles<V, T>.Powers<Again>(e, tile, unwanted);
                    for (int i = row; problem.Causal && i < Math.Min(row + tile, first + Width - 1); i++)
                    {
                        // Row i sees key j ≤ i only.
                        int seen = i - first + 1;
                        new Span<T>(e + ((long)(i - row) * Width) + seen, Width - seen).Clear();
                    }

                    Tiles<V, T>.Dot<Times<V, T>>(rows.MixedResiduals + deep, depth, tile, value, depth, zero, e, p);
                    for (int k = 0; k < stride; k += 4)
                    {
                        Tiles<V, T>.Accumulate(rows.Residuals + at + k, stride, e, tile, part + ((long)k * Width));
                        Tiles<V, T>.Accumulate(rows.PlainQueries + at + k, stride, p, tile, part + ((long)(stride + k) * Width));
                    }
                }

                for (int i = 0; i < 2 * stride * Width; i += V.Count)
                {
                    (V.Load(sums + i) + V.Load(part + i)).Store(sums + i);
                }
            }

            for (int v = 0; v < count; v++)
            {
                for (int k = 0; k < _d; k++)
                {
                    long at = ((long)(first + v) * _d) + k;
                    if (output.DV is T[] dV)
                    {
                        dV[at] = sums[(k * Width) + v];
                    }

                    if (output.DK is T[] dK)
                    {
                        // Queries are in units of log 2 and divided already.
                        dK[at] = T.CreateTruncating(double.CreateTruncating(sums[((stride + k) * Width) + v]) * Log2);
                    }
                }
            }
        }
    }

    /// <summary>Rows of a matrix side by side, and a column of ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Turn(T* matrix, int first, int count, T* to)
    {
        for (int k = 0; k <= _d; k++)
        {
            for (int v = 0; v < Width; v++)
            {
                to[(k * Width) + v] = v >= count ? T.Zero : k < _d ? matrix[((long)(first + v) * stride) + k] : T.One;
            }
        }
    }
}

/// <summary>What the second half of a row's gradient is made of, row by row.</summary>
internal sealed unsafe class RowsForKeys<T>(int n, int d, int stride) : IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly AlignedBuffer<T> _memory = new((2L * n * (d + 1)) + (2L * n * stride));

    /// <summary>q in units of log 2, then what the row's logits start from: (n, d + 1).</summary>
    public T* Queries => _memory.Start;

    /// <summary>Y c / l, then −r / l: (n, d + 1).</summary>
    public T* MixedResiduals => Queries + ((long)n * (d + 1));

    /// <summary>q in units of log 2: (n, stride), padded with zeros.</summary>
    public T* PlainQueries => MixedResiduals + ((long)n * (d + 1));

    /// <summary>c / l: (n, stride), padded with zeros.</summary>
    public T* Residuals => PlainQueries + ((long)n * stride);

    public void Clear() => _memory.Clear();

    public void Dispose() => _memory.Dispose();
}
