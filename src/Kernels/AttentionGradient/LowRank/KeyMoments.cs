using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Pass 1: the moments of the keys, a table [column][slot] for every chunk of them.</summary>
/// <remarks>
/// A tile of keys at a time: its features, then outer products with h, 1 and their products by x_i, see <see cref="FeaturePlan"/>.
/// Sums have three levels, so that float32 does not drift with n: a tile's in registers, those of <see cref="FlushRows"/> keys
/// in T, and the chunk's in double.
/// </remarks>
internal sealed unsafe class KeyMoments<L, T> : Chunks, IDisposable
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int FlushRows = 4096;

    private readonly AttentionProblem<T> _problem;
    private readonly FeaturePlan _plan;
    private readonly double* _meanKey;
    private readonly CancellationToken _cancellation;
    private readonly AlignedBuffer<double> _sums, _right;
    private readonly int _n, _d, _columns, _groups, _keysPerChunk, _tile, _stride, _factorStride;
    private readonly FeaturePlan.Growth[] _products;

    public KeyMoments(
        AttentionProblem<T> problem, FeaturePlan plan, double* meanKey, CancellationToken cancellation)
    {
        _problem = problem;
        _plan = plan;
        _meanKey = meanKey;
        _cancellation = cancellation;
        (_n, _d, _columns) = (problem.N, problem.D, problem.D + 1);
        _tile = KeyShape.Tile(plan.Stored * sizeof(T), (double)plan.Slots * _columns * sizeof(T));
        _stride = KeyShape.Stride(plan.Stored, L.Count, sizeof(T));
        int vectors = (_columns + L.Count - 1) / L.Count;
        _factorStride = vectors * L.Count;
        _products = new FeaturePlan.Growth[plan.Implied * vectors];
        for (int i = 0; i < _products.Length; i++)
        {
            int at = i % vectors * L.Count;
            _products[i] = new(at, (((i / vectors) + 1) * _tile * _factorStride) + at, i / vectors);
        }

        int chunks = KeyShape.Chunks(_n, plan.Slots * (double)_columns);
        _keysPerChunk = (((_n + chunks - 1) / chunks) + _tile - 1) / _tile * _tile;
        KeyChunks = (_n + _keysPerChunk - 1) / _keysPerChunk;
        _groups = KeyShape.Groups(KeyChunks, _d);
        _sums = AlignedBuffer<double>.Zeroed((long)KeyChunks * SumLength);
        _right = RowProducts.Widen(problem.Y, _d);
    }

    /// <summary>Parts of the keys with sums of their own.</summary>
    public int KeyChunks { get; }

    /// <summary>Parts of the work: where the keys' parts are few, the columns are parted too.</summary>
    public int ChunkCount => KeyChunks * _groups;

    /// <summary>The sums of a chunk of keys.</summary>
    public double* Sums(int chunk) => _sums.Start + (chunk * SumLength);

    private long SumLength => (long)_columns * _plan.Slots;

    public void Dispose()
    {
        _sums.Dispose();
        _right.Dispose();
    }

    protected override void Take()
    {
        int width = RowProducts.Padded(_d), panels = _plan.Implied + 1;
        using AlignedBuffer<T> features = AlignedBuffer<T>.Zeroed(((long)_tile * _stride) + L.Count);
        using AlignedBuffer<T> factors = AlignedBuffer<T>.Zeroed((long)panels * _tile * _factorStride);
        using AlignedBuffer<T> near = AlignedBuffer<T>.Zeroed(sizeof(T) < sizeof(double) ? SumLength : 0);
        using AlignedBuffer<double> wide = AlignedBuffer<double>.Zeroed(2L * _tile * width);
        for (long r = 0; r < _tile; r++)
        {
            features.Start[(r * _stride) + _plan.Lead] = T.One;
            factors.Start[(r * _factorStride) + _d] = T.One;
        }

        fixed (T* a2 = _problem.A2, a3 = _problem.A3)
        {
            for (int chunk = Next(); chunk >= 0; chunk = Next())
            {
                int keys = chunk / _groups, group = chunk % _groups;
                Columns columns = Columns.Group(_d, group, _groups);
                double* sums = Sums(keys);
                T* into = sizeof(T) < sizeof(double) ? near.Start : (T*)sums;
                int end = Math.Min(_n, (keys + 1) * _keysPerChunk), pending = 0;
                for (int j = keys * _keysPerChunk; j < end; j += _tile)
                {
                    int rows = Math.Min(_tile, end - j);
                    RowProducts.Widen(a2 + ((long)j * _d), rows, _d, wide.Start);
                    RowProducts.Centre(wide.Start, rows, _d, _meanKey, _problem.Divisor);
                    RowProducts.Round(wide.Start, rows, _d, features.Start + _plan.Lead + 1, _stride);
                    RowProducts.Widen(a3 + ((long)j * _d), rows, _d, wide.Start);
                    RowProducts.Multiply<T>(wide.Start, rows, _d, _right.Start, wide.Start + ((long)_tile * width));
                    RowProducts.Round(wide.Start + ((long)_tile * width), rows, _d, factors.Start, _factorStride);
                    AddProducts(features.Start, factors.Start, rows, columns, into);
                    pending += rows;
                    if (sizeof(T) < sizeof(double) && (pending >= FlushRows || j + _tile >= end))
                    {
                        Flush(into, sums, columns);
                        pending = 0;
                    }
                }
            }
        }
    }

    /// <summary>The other features of a tile, and all its products.</summary>
    private void AddProducts(T* features, T* factors, int rows, Columns columns, T* into)
    {
        // Rows beyond the last are made too, of what stands there: a tile is a multiple of eight.
        T* x = features + _plan.Lead + 1;
        int eights = (rows + 7) / 8;
        Tiles<L, T>.Grow(_products, factors, _factorStride, x, _stride, eights);
        foreach (FeaturePlan.Step step in _plan.Steps)
        {
            _cancellation.ThrowIfCancellationRequested();
            Tiles<L, T>.Grow(_plan.Growths.AsSpan(step.Growth, step.Growths), features, _stride, x, _stride, eights);
            foreach (ref readonly FeaturePlan.Piece piece in _plan.Pieces.AsSpan(step.Piece, step.Pieces))
            {
                T* phi = features + piece.Feature;
                T* y = factors + ((long)piece.Panel * _tile * _factorStride) + columns.First;
                T* at = into + ((long)columns.First * _plan.Slots) + piece.Slot;
                if (columns.Fours > 0)
                {
                    Outer<Four>(phi, piece.Vectors, y, columns.Fours, rows, at);
                    y += columns.Fours * 4;
                    at += columns.Fours * 4L * _plan.Slots;
                }

                if (columns.Threes > 0)
                {
                    Outer<Three>(phi, piece.Vectors, y, columns.Threes, rows, at);
                    y += columns.Threes * 3;
                    at += columns.Threes * 3L * _plan.Slots;
                }

                if (columns.Twos > 0)
                {
                    Outer<Two>(phi, piece.Vectors, y, columns.Twos, rows, at);
                }
            }
        }
    }

    private void Outer<C>(T* phi, int vectors, T* y, int tiles, int rows, T* into)
        where C : struct, ICount
    {
        switch (vectors)
        {
            case 1:
                Tiles<L, T>.Outer<C, One>(phi, _stride, y, _factorStride, tiles, rows, into, _plan.Slots);
                break;
            case 2:
                Tiles<L, T>.Outer<C, Two>(phi, _stride, y, _factorStride, tiles, rows, into, _plan.Slots);
                break;
            default:
                Tiles<L, T>.Outer<C, Three>(phi, _stride, y, _factorStride, tiles, rows, into, _plan.Slots);
                break;
        }
    }

    /// <summary>Adds the near sums to the chunk's and clears them.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void Flush(T* near, double* sums, Columns columns)
    {
        float* from = (float*)near + ((long)columns.First * _plan.Slots);
        double* to = sums + ((long)columns.First * _plan.Slots);
        long count = (long)columns.Count * _plan.Slots, i = 0;
        for (; i <= count - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector.Widen(Vector.Load(from + i), out Vector<double> low, out Vector<double> high);
            Vector.Store(Vector.Load(to + i) + low, to + i);
            Vector.Store(Vector.Load(to + i + Vector<double>.Count) + high, to + i + Vector<double>.Count);
            Vector.Store(Vector<float>.Zero, from + i);
        }

        for (; i < count; i++)
        {
            to[i] += from[i];
            from[i] = 0;
        }
    }
}

/// <summary>How the keys are cut: by n, the size of the state and the vectors alone, never by the threads.</summary>
internal static class KeyShape
{
    /// <summary>Keys in a tile: 64 where their features and the state share a level-2 cache, more where the state does not fit,
    /// since it is then read and written once a tile.</summary>
    public static int Tile(double featureBytes, double stateBytes)
    {
        const double Near = 256 << 10, Far = 8 << 20;
        double room = stateBytes > 4 * Near ? Far : Near;
        return (int)Math.Clamp(room / featureBytes / 16, 1, stateBytes > 4 * Near ? 12 : 4) * 16;
    }

    /// <summary>From one key's features to the next's: an odd number of cache lines, so that a column of them does not fall
    /// into few sets of the cache.</summary>
    public static int Stride(int stored, int lanes, int bytesPerNumber)
    {
        int line = 64 / bytesPerNumber;
        return ((stored + lanes + line - 1) / line | 1) * line;
    }

    /// <summary>Parts of the keys, each with a state of its own: at most 32, and no more than 64 MiB of them.</summary>
    public static int Chunks(int n, double state) =>
        (int)Math.Clamp(Math.Min(Math.Ceiling(n / 1024.0), Math.Floor((64 << 20) / (8 * state))), 1, 32);

    /// <summary>Parts of the columns, so that some sixteen threads have work where the state allows few parts of the keys.</summary>
    public static int Groups(int chunks, int d) => chunks >= 16 ? 1 : Math.Min((15 + chunks) / chunks, Columns.TilesOf(d));
}
