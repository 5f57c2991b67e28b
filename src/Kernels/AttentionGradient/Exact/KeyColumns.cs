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
    int threads, CancellationToken cancellation) : Chunks
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Tile = 64;
    private const int Span = 512;
    private const double Log2 = 0.6931471805599453;

    // Chunks a thread, at least, so that none waits long for the last.
    private const int LeastChunks = 8;

    private readonly int _n = problem.N, _d = problem.D;

    // How many blocks of keys share a tile of rows before the next is fetched.
    private readonly int _sharing = (int)Math.Max(1, Math.Min(
        Reuse.Sharing(RowsForKeys<T>.Bytes(problem.N, problem.D, stride), stride, Width),
        problem.N / ((long)Width * LeastChunks * Math.Max(1, threads))));

    private static int Width => Tiles<V, T>.Width;

    public int ChunkCount => (_n + (_sharing * Width) - 1) / (_sharing * Width);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void Take()
    {
        long depth = _d + 1, block = ((2 * depth) + (4L * stride)) * Width;
        using AlignedBuffer<T> memory = new((_sharing * block) + (((2L * Tile) + 2) * Width));
        Block[] all = new Block[_sharing];
        for (int b = 0; b < _sharing; b++)
        {
            all[b] = new(memory.Start + (b * block), (int)depth, stride);
        }

        T* e = memory.Start + (_sharing * block), p = e + ((long)Tile * Width), zero = p + ((long)Tile * Width), unwanted = zero + Width;
        new Span<T>(zero, Width).Clear();
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            int taken = 0;
            for (int first = chunk * _sharing * Width; first < _n && taken < _sharing; first += Width)
            {
                Block next = all[taken++];
                next.Take(first, Math.Min(Width, _n - first));
                Turn(keys, next, next.Key);
                Turn(values, next, next.Value);
                new Span<T>(next.Sums, 2 * stride * Width).Clear();
            }

            Span<Block> blocks = all.AsSpan(0, taken);
            for (int span = problem.Causal ? blocks[0].First / Span * Span : 0; span < _n; span += Span)
            {
                foreach (Block of in blocks)
                {
                    new Span<T>(of.Part, 2 * stride * Width).Clear();
                }

                int end = Math.Min(_n, span + Span);
                for (int row = span; row < end; row += Tile)
                {
                    cancellation.ThrowIfCancellationRequested();
                    int count = Math.Min(Tile, end - row);
                    foreach (Block of in blocks)
                    {
                        if (!problem.Causal || row + count > of.First)
                        {
                            Add(of, row, count, e, p, zero, unwanted);
                        }
                    }
                }

                foreach (Block of in blocks)
                {
                    for (int i = 0; i < 2 * stride * Width; i += V.Count)
                    {
                        (V.Load(of.Sums + i) + V.Load(of.Part + i)).Store(of.Sums + i);
                    }
                }
            }

            foreach (Block of in blocks)
            {
                Give(of);
            }
        }
    }

    /// <summary>What a tile of rows adds to a block's sums.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Add(Block block, int row, int count, T* e, T* p, T* zero, T* unwanted)
    {
        int depth = _d + 1;
        long at = (long)row * stride, deep = (long)row * depth;
        Tiles<V, T>.Dot<Plain<V, T>>(rows.Queries + deep, depth, count, block.Key, depth, zero, e, e);
        Tiles<V, T>.Powers<Again>(e, count, unwanted);
        for (int i = row; problem.Causal && i < Math.Min(row + count, block.First + Width - 1); i++)
        {
            // Row i sees key j ≤ i only.
            int seen = Math.Max(0, i - block.First + 1);
            new Span<T>(e + ((long)(i - row) * Width) + seen, Width - seen).Clear();
        }

        Tiles<V, T>.Dot<Times<V, T>>(rows.MixedResiduals + deep, depth, count, block.Value, depth, zero, e, p);
        for (int k = 0; k < stride; k += 4)
        {
            Tiles<V, T>.Accumulate(rows.Residuals + at + k, stride, e, count, block.Part + ((long)k * Width));
            Tiles<V, T>.Accumulate(rows.PlainQueries + at + k, stride, p, count, block.Part + ((long)(stride + k) * Width));
        }
    }

    /// <summary>Hands out a finished block's dK and dV, where they are asked for.</summary>
    private void Give(Block block)
    {
        for (int v = 0; v < block.Keys; v++)
        {
            for (int k = 0; k < _d; k++)
            {
                long at = ((long)(block.First + v) * _d) + k;
                if (output.DV is T[] dV)
                {
                    dV[at] = block.Sums[(k * Width) + v];
                }

                if (output.DK is T[] dK)
                {
                    // Queries are in units of log 2 and divided already.
                    dK[at] = T.CreateTruncating(double.CreateTruncating(block.Sums[((stride + k) * Width) + v]) * Log2);
                }
            }
        }
    }

    /// <summary>Rows of a matrix side by side, and a column of ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Turn(T* matrix, Block block, T* to)
    {
        for (int k = 0; k <= _d; k++)
        {
            for (int v = 0; v < Width; v++)
            {
                to[(k * Width) + v] = v >= block.Keys ? T.Zero : k < _d ? matrix[((long)(block.First + v) * stride) + k] : T.One;
            }
        }
    }

    /// <summary>A block of keys; [column][W] arrays.</summary>
    private sealed class Block(T* at, int depth, int stride)
    {
        public int First { get; private set; }

        /// <summary>How many keys there are; the lanes beyond hold zeros.</summary>
        public int Keys { get; private set; }

        public T* Key { get; } = at;

        public T* Value { get; } = at + ((long)depth * Width);

        /// <summary>dV, then dK.</summary>
        public T* Sums { get; } = at + (2L * depth * Width);

        /// <summary>The same over a span of rows.</summary>
        public T* Part { get; } = at + (((2L * depth) + (2L * stride)) * Width);

        public void Take(int first, int keys) => (First, Keys) = (first, keys);
    }
}

/// <summary>What the second half of a row's gradient is made of, row by row.</summary>
internal sealed unsafe class RowsForKeys<T>(int n, int d, int stride) : IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly AlignedBuffer<T> _memory = new(Numbers(n, d, stride));

    /// <summary>q in units of log 2, then what the row's logits start from: (n, d + 1).</summary>
    public T* Queries => _memory.Start;

    /// <summary>Y c / l, then −r / l: (n, d + 1).</summary>
    public T* MixedResiduals => Queries + ((long)n * (d + 1));

    /// <summary>q in units of log 2: (n, stride), padded with zeros.</summary>
    public T* PlainQueries => MixedResiduals + ((long)n * (d + 1));

    /// <summary>c / l: (n, stride), padded with zeros.</summary>
    public T* Residuals => PlainQueries + ((long)n * stride);

    public static long Bytes(int n, int d, int stride) => Numbers(n, d, stride) * sizeof(T);

    public void Clear() => _memory.Clear();

    public void Dispose() => _memory.Dispose();

    private static long Numbers(long n, int d, int stride) => (2 * n * (d + 1)) + (2 * n * stride);
}
