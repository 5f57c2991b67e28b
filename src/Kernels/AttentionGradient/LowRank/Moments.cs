using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Σ x^β y over the rows (x, y) of a problem, y of d + 1 columns: a table [column][slot] for every chunk of rows.</summary>
/// <remarks>
/// A tile of rows at a time: its features, then outer products with y and its products by x_i, see <see cref="FeaturePlan"/>.
/// Sums have three levels, so that float32 does not drift with n: a tile's in registers, those of <see cref="FlushRows"/> rows
/// in T, and the chunk's in double.
/// </remarks>
internal abstract unsafe class Moments<L, T> : Chunks, IDisposable
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int FlushRows = 4096;

    private readonly FeaturePlan _plan;
    private readonly CancellationToken _cancellation;
    private readonly AlignedBuffer<double> _sums;
    private readonly int _n, _d, _columns, _groups, _rowsPerChunk, _tile, _stride, _factorStride;
    private readonly FeaturePlan.Growth[] _products;

    protected Moments(int n, FeaturePlan plan, CancellationToken cancellation)
    {
        _plan = plan;
        _cancellation = cancellation;
        (_n, _d, _columns) = (n, plan.D, plan.D + 1);
        _tile = MomentShape.Tile(plan.Stored * sizeof(T), (double)plan.Slots * _columns * sizeof(T));
        _stride = MomentShape.Stride(plan.Stored, L.Count, sizeof(T));
        int vectors = (_columns + L.Count - 1) / L.Count;
        _factorStride = vectors * L.Count;
        _products = new FeaturePlan.Growth[plan.Implied * vectors];
        for (int i = 0; i < _products.Length; i++)
        {
            int at = i % vectors * L.Count;
            _products[i] = new(at, (((i / vectors) + 1) * _tile * _factorStride) + at, i / vectors);
        }

        int chunks = MomentShape.Chunks(_n, plan.Slots * (double)_columns);
        _rowsPerChunk = (((_n + chunks - 1) / chunks) + _tile - 1) / _tile * _tile;
        RowChunks = (_n + _rowsPerChunk - 1) / _rowsPerChunk;
        _groups = MomentShape.Groups(RowChunks, _d);
        _sums = AlignedBuffer<double>.Zeroed((long)RowChunks * SumLength);
    }

    /// <summary>Parts of the rows with sums of their own.</summary>
    public int RowChunks { get; }

    /// <summary>Parts of the work: where the rows' parts are few, the columns are parted too.</summary>
    public int ChunkCount => RowChunks * _groups;

    /// <summary>The sums of a chunk of rows.</summary>
    public double* Sums(int chunk) => _sums.Start + (chunk * SumLength);

    private long SumLength => (long)_columns * _plan.Slots;

    public void Dispose() => _sums.Dispose();

    /// <summary>Writes x and y of some rows, each row <paramref name="xStride"/> and <paramref name="yStride"/> after the other.</summary>
    /// <param name="wide">Scratch for twice as many rows in double, see <see cref="RowProducts"/>; its padding is 0 and stays so.</param>
    protected abstract void Load(int first, int rows, T* x, int xStride, T* y, int yStride, double* wide);

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
        }

        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            int part = chunk / _groups, group = chunk % _groups;
            Columns columns = Columns.Group(_d, group, _groups);
            double* sums = Sums(part);
            T* into = sizeof(T) < sizeof(double) ? near.Start : (T*)sums;
            int end = Math.Min(_n, (part + 1) * _rowsPerChunk), pending = 0;
            for (int j = part * _rowsPerChunk; j < end; j += _tile)
            {
                int rows = Math.Min(_tile, end - j);
                Load(j, rows, features.Start + _plan.Lead + 1, _stride, factors.Start, _factorStride, wide.Start);
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

/// <summary>How rows are cut: by n, the size of the state and the vectors alone, never by the threads.</summary>
internal static class MomentShape
{
    /// <summary>Rows in a tile: 64 where their features and the state share a level-2 cache, more where the state does not fit,
    /// since it is then read and written once a tile.</summary>
    public static int Tile(double featureBytes, double stateBytes)
    {
        const double Near = 256 << 10, Far = 8 << 20;
        double room = stateBytes > 4 * Near ? Far : Near;
        return (int)Math.Clamp(room / featureBytes / 16, 1, stateBytes > 4 * Near ? 12 : 4) * 16;
    }

    /// <summary>From one row's features to the next's: an odd number of cache lines, so that a column of them does not fall
    /// into few sets of the cache.</summary>
    public static int Stride(int stored, int lanes, int bytesPerNumber)
    {
        int line = 64 / bytesPerNumber;
        return ((stored + lanes + line - 1) / line | 1) * line;
    }

    /// <summary>Parts of the rows, each with a state of its own: of 512 rows or more, which cost far more than adding a state up;
    /// at most 32, and no more than 64 MiB of them.</summary>
    public static int Chunks(int n, double state) =>
        (int)Math.Clamp(Math.Min(Math.Ceiling(n / 512.0), Math.Floor((64 << 20) / (8 * state))), 1, 32);

    /// <summary>Parts of the columns, so that some sixteen threads have work where there are few parts of the rows. Each group
    /// makes the features of its rows anew: at d = 8 three groups cost a sixth more than one, so from eight parts on there is one.</summary>
    public static int Groups(int chunks, int d) => chunks >= 8 ? 1 : Math.Min((15 + chunks) / chunks, Columns.TilesOf(d));
}
