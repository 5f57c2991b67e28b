using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>A sum over keys into a panel [width][columns], eight keys at a time, parallel over fixed parts of the keys.</summary>
/// <remarks>
/// The sum of five hundred keys is of type T, the sum of those is double: in float32 a single running sum of a million keys
/// would lose three of its seven digits. Parts and blocks depend on the shape alone.
/// </remarks>
internal abstract unsafe class KeyPass<T> : Chunks, IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int BlockKeys = 512;

    private readonly CancellationToken _cancellation;
    private readonly int _keysPerChunk, _rowScratch;
    private readonly double[][] _parts;

    protected KeyPass(Operands<T> operands, int columns, int width, int rowScratch, CancellationToken cancellation)
    {
        Operands = operands;
        Columns = columns;
        Width = width;
        _rowScratch = rowScratch;
        _cancellation = cancellation;
        int chunks = CountChunks(operands.N, columns, width);
        _keysPerChunk = (((operands.N + chunks - 1) / chunks) + Panels.Rows - 1) / Panels.Rows * Panels.Rows;
        ChunkCount = (operands.N + _keysPerChunk - 1) / _keysPerChunk;
        _parts = new double[ChunkCount][];
        for (int i = 0; i < ChunkCount; i++)
        {
            _parts[i] = ScratchMemory.Rent<double>(checked((width + 1) * columns));
        }
    }

    public int ChunkCount { get; }

    /// <summary>The panel, [width + 1][columns], after <see cref="Reduce"/>; the last row is each column's exponent, where there
    /// is one.</summary>
    public double[] Sum => _parts[0];

    protected Operands<T> Operands { get; }

    protected int Columns { get; }

    protected int Width { get; }

    /// <summary>Bytes of a pass for a shape, for predictions.</summary>
    public static double Bytes(int n, int columns, int width, int rowScratch, int threads, int bytesPerNumber) =>
        (8.0 * (width + 1) * columns * CountChunks(n, columns, width))
        + ((double)Math.Max(1, threads) * columns * ((Panels.Rows * rowScratch) + width + 1) * bytesPerNumber);

    public void Reduce()
    {
        for (int stride = 1; stride < ChunkCount; stride *= 2)
        {
            for (int i = 0; i + stride < ChunkCount; i += 2 * stride)
            {
                _cancellation.ThrowIfCancellationRequested();
                Merge(_parts[i + stride], _parts[i]);
            }
        }
    }

    public virtual void Dispose()
    {
        foreach (double[] part in _parts)
        {
            ScratchMemory.Return(part);
        }
    }

    /// <summary>Adds eight keys to the block's panel.</summary>
    /// <param name="keys">[8][d].</param>
    /// <param name="coefficients">[8][d + 1]: (h, 1) of each key, zeros for one that does not count.</param>
    /// <param name="rows">The thread's scratch, eight rows of columns times the number asked for.</param>
    /// <param name="panel">[width + 1][columns] of the block.</param>
    protected abstract void Add(T* keys, T* coefficients, T* rows, T* panel);

    /// <summary>An empty block.</summary>
    protected virtual void Begin(Span<T> panel) => panel.Clear();

    /// <summary>An empty part.</summary>
    protected virtual void Begin(Span<double> part) => part.Clear();

    /// <summary>Adds one panel to another.</summary>
    protected virtual void Merge(ReadOnlySpan<double> from, Span<double> into)
    {
        for (int i = 0; i < Width * Columns; i++)
        {
            into[i] += from[i];
        }
    }

    protected sealed override void Take()
    {
        int size = (Width + 1) * Columns, d = Operands.D;
        T[] scratch = ScratchMemory.Rent<T>(checked((Panels.Rows * _rowScratch * Columns) + size));
        T[] small = ScratchMemory.Rent<T>(Panels.Rows * ((2 * d) + 1));
        double[] widened = ScratchMemory.Rent<double>(size);
        try
        {
            fixed (T* panel = scratch, keys = small)
            {
                T* rows = panel + size, coefficients = keys + (Panels.Rows * d);
                for (int chunk = Next(); chunk >= 0; chunk = Next())
                {
                    Span<double> part = _parts[chunk].AsSpan(0, size);
                    Begin(part);
                    int end = Math.Min(Operands.N, (chunk + 1) * _keysPerChunk);
                    for (int block = chunk * _keysPerChunk; block < end; block += BlockKeys)
                    {
                        Begin(new Span<T>(panel, size));
                        int last = Math.Min(end, block + BlockKeys);
                        for (int first = block; first < last; first += Panels.Rows)
                        {
                            _cancellation.ThrowIfCancellationRequested();
                            Load(first, last, keys, coefficients);
                            Add(keys, coefficients, rows, panel);
                        }

                        for (int i = 0; i < size; i++)
                        {
                            widened[i] = double.CreateTruncating(panel[i]);
                        }

                        Merge(widened.AsSpan(0, size), part);
                    }
                }
            }
        }
        finally
        {
            ScratchMemory.Return(scratch);
            ScratchMemory.Return(small);
            ScratchMemory.Return(widened);
        }
    }

    // At most 16 parts, and no more than 64 MiB of them: by the shape alone.
    private static int CountChunks(int n, int columns, int width) =>
        (int)Math.Clamp(Math.Min(Math.Ceiling(n / 1024.0), Math.Floor((64 << 20) / (8.0 * (width + 1) * columns))), 1, 16);

    // Where a block ends sooner its last key stands in, with coefficients 0.
    private void Load(int first, int last, T* keys, T* coefficients)
    {
        int d = Operands.D;
        for (int r = 0; r < Panels.Rows; r++)
        {
            int j = Math.Min(first + r, last - 1) * d;
            Operands.Keys.AsSpan(j, d).CopyTo(new Span<T>(keys + (r * d), d));
            Span<T> values = new(coefficients + (r * (d + 1)), d + 1);
            if (first + r >= last)
            {
                values.Clear();
                continue;
            }

            Operands.H.AsSpan(j, d).CopyTo(values);
            values[d] = T.One;
        }
    }
}

/// <summary>M_a = Σ_j e^(ω_a·κ_j + bias_j − μ_a) (h_j, 1), with μ_a the largest exponent of the column.</summary>
/// <remarks>The largest is found on the way and earlier sums are rescaled when it grows, as an online softmax does: so no
/// input makes an exponential overflow, and no column is empty.</remarks>
internal sealed unsafe class ExponentialMoments<T>(
    Operands<T> operands, T[] frequencies, int columns, bool gaussian, CancellationToken cancellation)
    : KeyPass<T>(operands, columns, operands.D + 1, 1, cancellation)
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly T[] _frequencies = frequencies;

    // Whether bias_j is −‖κ_j‖² / 2, as positive random features have it, or 0.
    private readonly bool _gaussian = gaussian;

    protected override void Begin(Span<T> panel)
    {
        panel[..(Width * Columns)].Clear();
        panel[(Width * Columns)..].Fill(T.NegativeInfinity);
    }

    protected override void Begin(Span<double> part)
    {
        part[..(Width * Columns)].Clear();
        part[(Width * Columns)..].Fill(double.NegativeInfinity);
    }

    protected override void Add(T* keys, T* coefficients, T* rows, T* panel)
    {
        int d = Operands.D;
        T* bias = stackalloc T[Panels.Rows];
        for (int r = 0; r < Panels.Rows; r++)
        {
            double square = 0;
            for (int k = 0; _gaussian && k < d; k++)
            {
                double key = double.CreateTruncating(keys[(r * d) + k]);
                square += key * key;
            }

            bias[r] = T.CreateTruncating(-square / 2);
        }

        fixed (T* frequencies = _frequencies)
        {
            Panels.Expand(keys, d, d, frequencies, Columns, Columns, rows, Columns);
        }

        Exponentials(rows, bias, panel);
        Panels.Accumulate(coefficients, d + 1, Width, rows, Columns, Columns, panel, Columns);
    }

    protected override void Merge(ReadOnlySpan<double> from, Span<double> into)
    {
        for (int a = 0; a < Columns; a++)
        {
            double other = from[(Width * Columns) + a], mine = into[(Width * Columns) + a];
            double largest = double.IsNaN(other) ? other : Math.Max(mine, other);
            double ofMine = Math.Exp(mine - largest), ofOther = Math.Exp(other - largest);
            into[(Width * Columns) + a] = largest;
            for (int l = 0; l < Width; l++)
            {
                int at = (l * Columns) + a;
                into[at] = (into[at] * ofMine) + (from[at] * ofOther);
            }
        }
    }

    /// <summary>rows = e^(rows + bias − μ), with μ, the panel's last row, raised first where a new exponent is larger.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void Exponentials(T* rows, T* bias, T* panel)
    {
        int columns = Columns, width = Width;
        T* exponent = panel + ((long)width * columns);
        for (int a = 0; a < columns; a += Vector<T>.Count)
        {
            T* at = rows + a;
            Vector<T> largest = Vector.Load(at) + Vector.Create(bias[0]);
            Vector.Store(largest, at);
            for (int r = 1; r < Panels.Rows; r++)
            {
                at += columns;
                Vector<T> t = Vector.Load(at) + Vector.Create(bias[r]);
                Vector.Store(t, at);
                largest = Vector.MaxNative(largest, t);
            }

            Vector<T> before = Vector.Load(exponent + a);
            if (!Vector.LessThanOrEqualAll(largest, before))
            {
                largest = Vector.MaxNative(largest, before);
                Vector<T> scale = Lanes.Exp(before - largest);
                Vector.Store(largest, exponent + a);
                before = largest;
                for (int l = 0; l < width; l++)
                {
                    T* sum = panel + ((long)l * columns) + a;
                    Vector.Store(scale * Vector.Load(sum), sum);
                }
            }

            at = rows + a;
            for (int r = 0; r < Panels.Rows; r++, at += columns)
            {
                Vector.Store(Lanes.Exp(Vector.Load(at) - before), at);
            }
        }
    }
}
