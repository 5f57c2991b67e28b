using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>The exact gradient of blocks of rows, a row to a lane, keys streamed past them in tiles.</summary>
/// <remarks>
/// With κ = a2 − mean and v = a3 − mean (neither changes p), s = q·κ / divisor, f = e^s / l:
///   G = Σ f v;  F = (G + mean) Y;  c = F − E;  c̃ = Y c;  p = f (c̃·v − c̃·G);  dQ = Σ p κ;  dX = A1ᵀ dQ / divisor;  dY = (G + mean)ᵀ c.
/// So four products of d multiply-adds and one exponential a pair, and h = A3 Y is never made.
///
/// Range     A block whose logits cannot spread by more than log(n / 4), by Cauchy and Schwarz, needs no maximum: no key can have
///           more than a quarter of a row. Any other block first looks for its rows' largest logits, at the price of a fifth product.
/// Dominated A row of which one key has more than a quarter is not done here: c̃·v − c̃·G would lose the digits that the other keys
///           have left. <see cref="DominatedRows"/> lists them, for the careful way.
/// Cache     Each tile of keys serves up to <see cref="MostBlocks"/> blocks before the next is fetched: one block's work is 0.4 of a
///           multiply-add a byte, which no second-level cache feeds at full speed.
/// Scratch   The blocks' exponentials stay in memory, W n numbers a block, for the second half; beyond
///           <see cref="LargestScratch"/> bytes they are made again instead (one product and one exponential more), with the same bits.
/// Sums      in T over <see cref="Span"/> keys, those in T again: at n = 131072 no sum has more than 512 terms in a row.
/// </remarks>
internal sealed unsafe class LaneRows<V, T> : Chunks, IDisposable
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // Of exponentials a thread keeps. Where a core's own cache is smaller they stream from the shared one, which costs about as
    // much as making them again does.
    private const long LargestScratch = 16L << 20;

    private const int MostBlocks = 4;

    // Keys whose sums are kept in registers and first-level cache before they are added to the block's totals.
    private const int Span = 512;

    // A multiple of every width's block, so that chunks fall on the same rows whatever the width.
    private const int ChunkUnit = 48;

    private const double LogE = 1.4426950408889634;

    // What a chunk writes after its shares of dX and dY: loss, least row sum, largest |logit|, sum of their squares.
    private const int Extras = 4;

    private readonly AttentionProblem<T> _problem;
    private readonly GradientOutput<T> _output;
    private readonly CancellationToken _cancellation;
    private readonly int _n, _d, _stride, _tile, _rowsPerChunk, _share;
    private readonly bool _statistics, _keeps;
    private readonly AlignedBuffer<T> _keys, _values, _xT, _y, _yT;
    private readonly double[] _shares, _base;
    private readonly List<int>[] _dominated;
    private readonly RowsForKeys<T>? _forKeys;
    private readonly T[] _valueMean;
    private readonly double[] _keyMean;
    private double _longestKey;

    public LaneRows(AttentionProblem<T> problem, GradientOutput<T> output, KernelContext context)
    {
        _problem = problem;
        _output = output;
        _cancellation = context.Cancellation;
        _statistics = context.Statistics;
        _n = problem.N;
        _d = problem.D;
        _stride = Stride(_d);
        _tile = TileOf(_d);
        _rowsPerChunk = RowsPerChunk(_n, _d);
        ChunkCount = (_n + _rowsPerChunk - 1) / _rowsPerChunk;
        _share = (2 * _d * _d) + Extras;
        _keeps = Keeps(_n);
        _shares = new double[(long)ChunkCount * _share];
        _dominated = new List<int>[ChunkCount];
        _base = new double[_d];
        _valueMean = new T[_d];
        _keyMean = new double[_d];
        if (output.DK is not null || output.DV is not null)
        {
            _forKeys = new(_n, _d, _stride);
            _forKeys.Clear();
        }

        _keys = new((long)_n * _stride);
        _values = new((long)_n * _stride);
        _xT = new((long)_d * _d);
        _y = new((long)_d * _d);
        _yT = new((long)_d * _d);
    }

    public int ChunkCount { get; }

    /// <summary>Rows that were left out, ascending.</summary>
    public IEnumerable<int> DominatedRows => _dominated.SelectMany(rows => rows);

    private static int Width => Tiles<V, T>.Width;

    /// <summary>Computes dK and dV, if asked for, once the rows are done.</summary>
    public void RunKeys(KernelContext context)
    {
        if (_forKeys is not null)
        {
            KeyColumns<V, T> columns = new(
                _problem, _output, _keys.Start, _values.Start, _stride, _forKeys, context.Cancellation);
            columns.Run(columns.ChunkCount, context.Threads, context.Cancellation);
        }
    }

    /// <summary>Bytes beyond inputs and output.</summary>
    public static double Bytes(int n, int d, int threads)
    {
        double stride = Stride(d), width = Width;
        double operands = ((2 * n * stride) + (3.0 * d * d)) * sizeof(T);
        double block = ((Keeps(n) ? n : TileOf(d)) + (12 * stride)) * width;
        double scratch = (MostBlocks * block) + (TileOf(d) * width) + (2.0 * d * stride * V.Count);
        int chunks = (n + RowsPerChunk(n, d) - 1) / RowsPerChunk(n, d);
        return operands + (Math.Max(1, threads) * scratch * sizeof(T)) + (chunks * ((2.0 * d * d) + Extras) * 8);
    }

    /// <summary>Centres keys and values, and turns the small matrices as the blocks read them.</summary>
    public void Prepare()
    {
        double scale = LogE / _problem.Divisor;
        double[] keyMean = Mean(_problem.A2), valueMean = Mean(_problem.A3);
        _longestKey = Math.Sqrt(Centre(_problem.A2, keyMean, _keys.Start));
        Centre(_problem.A3, valueMean, _values.Start);
        for (int k = 0; k < _d; k++)
        {
            _valueMean[k] = T.CreateTruncating(valueMean[k]);
            _keyMean[k] = keyMean[k];
            for (int m = 0; m < _d; m++)
            {
                double y = double.CreateTruncating(_problem.Y[(m * _d) + k]);
                _base[k] += valueMean[m] * y;
                _xT.Start[(k * _d) + m] = T.CreateTruncating(double.CreateTruncating(_problem.X[(m * _d) + k]) * scale);
                _y.Start[(m * _d) + k] = _problem.Y[(m * _d) + k];
                _yT.Start[(k * _d) + m] = _problem.Y[(m * _d) + k];
            }
        }
    }

    /// <summary>Adds the chunks' shares to <paramref name="dX"/> and <paramref name="dY"/> and writes the facts.</summary>
    public void Finish(Span<double> dX, Span<double> dY)
    {
        double least = double.PositiveInfinity, largest = 0;
        for (int chunk = 0; chunk < ChunkCount; chunk++)
        {
            Span<double> extras = _shares.AsSpan((chunk * _share) + (2 * _d * _d), Extras);
            least = Math.Min(least, extras[1]);
            largest = Math.Max(largest, extras[2]);
        }

        ReduceTree(_shares, ChunkCount, _share);
        for (int i = 0; i < _d * _d; i++)
        {
            dX[i] += _shares[i] / _problem.Divisor;
            dY[i] += _shares[(_d * _d) + i];
        }

        _output.Loss = _shares[2 * _d * _d] / 2;
        _output.MinRowSumOverN = least / _n;
        _output.MaxLogit = _statistics ? largest / LogE : double.NaN;
        double pairs = _problem.Causal ? (double)_n * (_n + 1) / 2 : (double)_n * _n;
        _output.RmsLogit = _statistics ? Math.Sqrt(_shares[(2 * _d * _d) + 3] / pairs) / LogE : double.NaN;
    }

    public void Dispose()
    {
        _forKeys?.Dispose();
        _keys.Dispose();
        _values.Dispose();
        _xT.Dispose();
        _y.Dispose();
        _yT.Dispose();
    }

    protected override void Take()
    {
        using Scratch scratch = new(Math.Min(MostBlocks, _rowsPerChunk / Width), _keeps ? _n : _tile, _tile, _d, _stride);
        Block[] blocks = scratch.Blocks;
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            Span<double> share = _shares.AsSpan(chunk * _share, _share);
            share[(2 * _d * _d) + 1] = double.PositiveInfinity;
            List<int> dominated = _dominated[chunk] = [];
            new Span<T>(scratch.ProductsX, 2 * _d * _stride * V.Count).Clear();
            int end = Math.Min(_n, (chunk + 1) * _rowsPerChunk);
            for (int first = chunk * _rowsPerChunk; first < end; first += blocks.Length * Width)
            {
                int count = 0;
                for (int row = first; row < end && count < blocks.Length; row += Width)
                {
                    blocks[count++].Take(row, Math.Min(Width, end - row), _problem.Causal ? Math.Min(row + Width, end) : _n);
                }

                Rows(blocks.AsSpan(0, count), scratch, share, dominated);
            }

            for (int r = 0; r < _d; r++)
            {
                for (int c = 0; c < _d; c++)
                {
                    T* x = scratch.ProductsX + ((((long)r * _stride) + c) * V.Count);
                    T* y = scratch.ProductsY + ((((long)r * _stride) + c) * V.Count);
                    share[(r * _d) + c] = double.CreateTruncating(V.Sum(V.Load(x)));
                    share[(_d * _d) + (r * _d) + c] = double.CreateTruncating(V.Sum(V.Load(y)));
                }
            }
        }
    }

    private static int Stride(int d) => (d + 3) / 4 * 4;

    // A tile's keys, values, exponentials and p in half of a first-level cache of 48 KiB, so that they stay there from the first
    // of their four uses to the last.
    private static int TileOf(int d) =>
        Math.Clamp((24 << 10) / (2 * (Stride(d) + Width) * sizeof(T)) / 4 * 4, 16, 128);

    private static bool Keeps(int n) => (long)n * MostBlocks * Width * sizeof(T) <= LargestScratch;

    // Sixty-four chunks at most: enough for any machine's threads. Not so small that adding up d × d shares is felt.
    private static int RowsPerChunk(int n, int d)
    {
        int rows = Math.Max((n + 63) / 64, Math.Min(2 * d, n / 16));
        return Math.Max(1, (rows + ChunkUnit - 1) / ChunkUnit) * ChunkUnit;
    }

    /// <summary>The columns' means, taken from the first row, so that identical rows have exactly themselves.</summary>
    private double[] Mean(T[] matrix)
    {
        double[] mean = new double[_d];
        for (int i = 1; i < _n; i++)
        {
            for (int k = 0; k < _d; k++)
            {
                mean[k] += double.CreateTruncating(matrix[((long)i * _d) + k]) - double.CreateTruncating(matrix[k]);
            }
        }

        for (int k = 0; k < _d; k++)
        {
            mean[k] = double.CreateTruncating(matrix[k]) + (mean[k] / _n);
        }

        return mean;
    }

    /// <summary>Writes the rows without the mean, padded with zeros; returns the largest square of a norm.</summary>
    private double Centre(T[] matrix, double[] mean, T* to)
    {
        double largest = 0;
        for (int i = 0; i < _n; i++)
        {
            double square = 0;
            for (int k = 0; k < _stride; k++)
            {
                double value = k < _d ? double.CreateTruncating(matrix[((long)i * _d) + k]) - mean[k] : 0;
                square += value * value;
                to[((long)i * _stride) + k] = T.CreateTruncating(value);
            }

            largest = square <= largest ? largest : square;
        }

        return largest;
    }

    private void Rows(Span<Block> blocks, Scratch scratch, Span<double> share, List<int> dominated)
    {
        foreach (Block block in blocks)
        {
            block.Bounded = Queries(block);
            if (_statistics)
            {
                Survey(block, scratch.P, share[(2 * _d * _d)..]);
            }

            if (block.Bounded)
            {
                block.ClearStart();
            }
            else
            {
                Largest(block, scratch.P);
            }
        }

        Forward(blocks);
        bool any = false;
        foreach (Block block in blocks)
        {
            block.Dominated.Clear();
            Residuals(block, share);
            dominated.AddRange(block.Dominated);
            any |= block.Dominated.Count < block.Rows;
        }

        if (any)
        {
            Backward(blocks, scratch.P);
            foreach (Block block in blocks)
            {
                Fold(block, scratch);
            }
        }
    }

    /// <summary>Adds a finished block to the products A1ᵀ dQ and (f A3)ᵀ c.</summary>
    private void Fold(Block block, Scratch scratch)
    {
        foreach (int row in block.Dominated)
        {
            // Nothing of such a row may get into the sums, not even a NaN.
            for (int k = 0; k < _d; k++)
            {
                block.DQ[(k * Width) + row - block.First] = T.Zero;
            }
        }

        Tiles<V, T>.AddProducts(block.A1, block.DQ, _d, _stride, scratch.ProductsX);
        Tiles<V, T>.AddProducts(block.Mixed, block.C, _d, _stride, scratch.ProductsY);
        if (_output.DQ is T[] dQ)
        {
            T divisor = T.CreateTruncating(_problem.Divisor);
            for (int v = 0; v < block.Rows; v++)
            {
                for (int k = 0; k < _d; k++)
                {
                    dQ[((long)(block.First + v) * _d) + k] = block.DQ[(k * Width) + v] / divisor;
                }
            }
        }
    }

    /// <summary>The rows of A1 and their queries, in units of log 2. True when no key can dominate any of them.</summary>
    private bool Queries(Block block)
    {
        for (int k = 0; k < _d; k++)
        {
            T* column = block.A1 + ((long)k * Width);
            for (int v = 0; v < Width; v++)
            {
                column[v] = v < block.Rows ? _problem.A1[((long)(block.First + v) * _d) + k] : T.Zero;
            }
        }

        T* q = block.Q;
        block.ClearStart();
        Tiles<V, T>.Dot<Plain<V, T>>(_xT.Start, _d, _d, block.A1, _d, block.Start, q, q);
        double longest = 0;
        for (int v = 0; v < block.Rows; v++)
        {
            double square = 0;
            for (int k = 0; k < _d; k++)
            {
                double value = double.CreateTruncating(q[(k * Width) + v]);
                square += value * value;
            }

            longest = square <= longest ? longest : square;
        }

        // False for NaN.
        int fewest = _problem.Causal ? block.First + 1 : _n;
        return 2 * Math.Sqrt(longest) * _longestKey <= Math.Log2(fewest) - 2;
    }

    /// <summary>The largest |logit| and the sum of squares, in units of log 2 and of keys as they were given.</summary>
    private void Survey(Block block, T* s, Span<double> facts)
    {
        int w = V.Count;
        T* start = block.Start, largest = block.Unwanted, squares = block.Inverse;
        block.ClearStart();
        new Span<T>(largest, Width).Clear();
        for (int k = 0; k < _d; k++)
        {
            for (int v = 0; v < Width; v++)
            {
                start[v] += block.Q[(k * Width) + v] * T.CreateTruncating(_keyMean[k]);
            }
        }

        double sum = 0;
        for (int key = 0; key < block.Keys; key += _tile)
        {
            int count = Math.Min(_tile, block.Keys - key);
            Tiles<V, T>.Dot<Plain<V, T>>(_keys.Start + ((long)key * _stride), _stride, count, block.Q, _d, start, s, s);
            Hide(block, key, count, s, T.Zero);
            new Span<T>(squares, Width).Clear();
            for (int j = 0; j < count; j++)
            {
                for (int v = 0; v < Width; v += w)
                {
                    V logit = V.Load(s + (j * Width) + v);
                    V.Max(V.Load(largest + v), V.Abs(logit)).Store(largest + v);
                    V.MulAdd(logit, logit, V.Load(squares + v)).Store(squares + v);
                }
            }

            for (int v = 0; v < block.Rows; v++)
            {
                sum += double.CreateTruncating(squares[v]);
            }
        }

        facts[3] += sum;
        for (int v = 0; v < block.Rows; v++)
        {
            facts[2] = Math.Max(facts[2], double.CreateTruncating(largest[v]));
        }
    }

    /// <summary>Start = −(largest logit) of every row.</summary>
    private void Largest(Block block, T* s)
    {
        int w = V.Count;
        T* most = block.Start, zero = block.Zero;
        new Span<T>(most, Width).Fill(T.NegativeInfinity);
        for (int key = 0; key < block.Keys; key += _tile)
        {
            int count = Math.Min(_tile, block.Keys - key);
            Tiles<V, T>.Dot<Plain<V, T>>(_keys.Start + ((long)key * _stride), _stride, count, block.Q, _d, zero, s, s);
            Hide(block, key, count, s, T.NegativeInfinity);
            for (int v = 0; v < 3; v++)
            {
                V m = V.Load(most + (v * w));
                for (int j = 0; j < count; j++)
                {
                    m = V.Max(m, V.Load(s + (j * Width) + (v * w)));
                }

                m.Store(most + (v * w));
            }
        }

        for (int v = 0; v < Width; v++)
        {
            most[v] = -most[v];
        }
    }

    /// <summary>Under a causal mask, what row i would see of key j &gt; i.</summary>
    private void Hide(Block block, int key, int count, T* tile, T value)
    {
        if (_problem.Causal)
        {
            for (int j = Math.Max(key, block.First + 1); j < key + count; j++)
            {
                new Span<T>(tile + ((long)(j - key) * Width), Math.Min(Width, j - block.First)).Fill(value);
            }
        }
    }

    private void Exponentials(Block block, int key, int count, T* to, T* sums)
    {
        bool hides = _problem.Causal && key + count > block.First + 1;
        T* into = hides ? block.Unwanted : sums;
        Tiles<V, T>.Dot<Plain<V, T>>(_keys.Start + ((long)key * _stride), _stride, count, block.Q, _d, block.Start, to, to);
        if (block.Bounded)
        {
            Tiles<V, T>.Powers<Bounded>(to, count, into);
        }
        else
        {
            Tiles<V, T>.Powers<OpenBelow>(to, count, into);
        }

        if (hides)
        {
            Hide(block, key, count, to, T.Zero);
            for (int j = 0; j < count; j++)
            {
                Add(to + ((long)j * Width), sums, 3);
            }
        }
    }

    /// <summary>Row sums and Σ e^s v.</summary>
    private void Forward(Span<Block> blocks)
    {
        int keys = 0;
        foreach (Block block in blocks)
        {
            new Span<T>(block.Sums, (_stride + 1) * Width).Clear();
            keys = Math.Max(keys, block.Keys);
        }

        for (int span = 0; span < keys; span += Span)
        {
            _cancellation.ThrowIfCancellationRequested();
            int end = Math.Min(keys, span + Span);
            foreach (Block block in blocks)
            {
                new Span<T>(block.Part, (_stride + 1) * Width).Clear();
            }

            for (int key = span; key < end; key += _tile)
            {
                foreach (Block block in blocks)
                {
                    int count = Math.Min(_tile, Math.Min(end, block.Keys) - key);
                    if (count <= 0)
                    {
                        continue;
                    }

                    T* e = _keeps ? block.E + ((long)key * Width) : block.E;
                    Exponentials(block, key, count, e, block.Part + ((long)_stride * Width));
                    for (int k = 0; k < _stride; k += 4)
                    {
                        Tiles<V, T>.Accumulate(
                            _values.Start + ((long)key * _stride) + k, _stride, e, count, block.Part + ((long)k * Width));
                    }
                }
            }

            foreach (Block block in blocks)
            {
                Add(block.Part, block.Sums, 3 * (_stride + 1));
            }
        }
    }

    private void Backward(Span<Block> blocks, T* p)
    {
        int keys = 0;
        foreach (Block block in blocks)
        {
            new Span<T>(block.DQ, _stride * Width).Clear();
            keys = Math.Max(keys, block.Keys);
        }

        for (int span = 0; span < keys; span += Span)
        {
            _cancellation.ThrowIfCancellationRequested();
            int end = Math.Min(keys, span + Span);
            foreach (Block block in blocks)
            {
                new Span<T>(block.Part, _stride * Width).Clear();
            }

            for (int key = span; key < end; key += _tile)
            {
                foreach (Block block in blocks)
                {
                    int count = Math.Min(_tile, Math.Min(end, block.Keys) - key);
                    if (count <= 0)
                    {
                        continue;
                    }

                    T* e = _keeps ? block.E + ((long)key * Width) : block.E;
                    if (!_keeps)
                    {
                        Exponentials(block, key, count, e, block.Unwanted);
                    }

                    Tiles<V, T>.Dot<Times<V, T>>(
                        _values.Start + ((long)key * _stride), _stride, count, block.MixedC, _d, block.MinusR, e, p);
                    for (int k = 0; k < _stride; k += 4)
                    {
                        Tiles<V, T>.Accumulate(
                            _keys.Start + ((long)key * _stride) + k, _stride, p, count, block.Part + ((long)k * Width));
                    }
                }
            }

            foreach (Block block in blocks)
            {
                Add(block.Part, block.DQ, 3 * _stride);
            }
        }
    }

    /// <summary>From the row sums and Σ e^s v: G, F, c, loss, and c̃ / l and −c̃·G / l for the second half.</summary>
    private void Residuals(Block block, Span<double> share)
    {
        int w = V.Count;
        T* sums = block.Sums, g = block.Sums, rowSums = sums + ((long)_stride * Width), inverse = block.Inverse;
        T* f = block.F, c = block.C, mixedC = block.MixedC, minusR = block.MinusR, mixed = block.Mixed;
        for (int v = 0; v < Width; v++)
        {
            inverse[v] = T.One / rowSums[v];
        }

        for (int k = 0; k < _d; k++)
        {
            V mean = V.Broadcast(_valueMean[k]);
            for (int v = 0; v < Width; v += w)
            {
                V value = V.Load(g + (k * Width) + v) * V.Load(inverse + v);
                value.Store(g + (k * Width) + v);
                (value + mean).Store(mixed + (k * Width) + v);
            }
        }

        Tiles<V, T>.Dot<Plain<V, T>>(_yT.Start, _d, _d, g, _d, block.Zero, f, f);
        double loss = 0, least = double.PositiveInfinity;
        for (int v = 0; v < Width; v++)
        {
            // Not more than a quarter to any key; a bounded block was shown to have none. NaN takes the careful way as well.
            double sum = double.CreateTruncating(rowSums[v]);
            bool counts = v < block.Rows && (block.Bounded || sum >= 4);
            if (v < block.Rows && !counts)
            {
                block.Dominated.Add(block.First + v);
            }

            if (!counts)
            {
                for (int k = 0; k < _d; k++)
                {
                    c[(k * Width) + v] = T.Zero;
                    g[(k * Width) + v] = T.Zero;
                    mixed[(k * Width) + v] = T.Zero;
                }

                inverse[v] = T.Zero;
                continue;
            }

            least = Math.Min(least, sum);
            long row = (long)(block.First + v) * _d;
            for (int k = 0; k < _d; k++)
            {
                double part = double.CreateTruncating(f[(k * Width) + v]);
                double residual = part + (_base[k] - double.CreateTruncating(_problem.E[row + k]));
                loss += residual * residual;
                c[(k * Width) + v] = T.CreateTruncating(residual);
                _output.Forward[row + k] = T.CreateTruncating(part + _base[k]);
            }
        }

        share[2 * _d * _d] += loss;
        share[(2 * _d * _d) + 1] = Math.Min(share[(2 * _d * _d) + 1], least);
        Tiles<V, T>.Dot<Plain<V, T>>(_y.Start, _d, _d, c, _d, block.Zero, mixedC, mixedC);
        for (int v = 0; v < Width; v += w)
        {
            V r = V.Zero, over = V.Load(inverse + v);
            for (int k = 0; k < _d; k++)
            {
                V x = V.Load(mixedC + (k * Width) + v) * over;
                x.Store(mixedC + (k * Width) + v);
                r = r - (x * V.Load(g + (k * Width) + v));
            }

            r.Store(minusR + v);
        }

        if (_forKeys is not null)
        {
            Leave(block, _forKeys);
        }
    }

    /// <summary>What the keys' gradients need of these rows; nothing of a dominated one.</summary>
    private void Leave(Block block, RowsForKeys<T> rows)
    {
        for (int v = 0; v < block.Rows; v++)
        {
            T over = block.Inverse[v];
            if (over == T.Zero)
            {
                continue;
            }

            long deep = (long)(block.First + v) * (_d + 1), at = (long)(block.First + v) * _stride;
            for (int k = 0; k < _d; k++)
            {
                int from = (k * Width) + v;
                rows.Queries[deep + k] = rows.PlainQueries[at + k] = block.Q[from];
                rows.MixedResiduals[deep + k] = block.MixedC[from];
                rows.Residuals[at + k] = block.C[from] * over;
            }

            rows.Queries[deep + _d] = block.Start[v];
            rows.MixedResiduals[deep + _d] = block.MinusR[v];
        }
    }

    private static void Add(T* from, T* to, int vectors)
    {
        for (int i = 0; i < vectors * V.Count; i += V.Count)
        {
            (V.Load(to + i) + V.Load(from + i)).Store(to + i);
        }
    }

    /// <summary>A block of rows and what a thread keeps of it; [column][W] arrays and [W] vectors.</summary>
    private sealed class Block
    {
        public const int Wides = 9;
        public const int Vectors = 7;

        public Block(T* at, int kept, int stride)
        {
            long wide = (long)stride * Width;
            T* Next(long length)
            {
                T* taken = at;
                at += length;
                return taken;
            }

            E = Next((long)kept * Width);
            A1 = Next(wide);
            Q = Next(wide);
            Part = Next(wide + Width);
            Sums = Next(wide + Width);
            F = Next(wide);
            C = Next(wide);
            MixedC = Next(wide);
            Mixed = Next(wide);
            DQ = Next(wide);
            Start = Next(Width);
            MinusR = Next(Width);
            Inverse = Next(Width);
            Unwanted = Next(Width);
            Zero = Next(Width);
            new Span<T>(Zero, Width).Clear();
        }

        public int First { get; private set; }

        /// <summary>How many rows there are; the lanes beyond hold zeros.</summary>
        public int Rows { get; private set; }

        /// <summary>How many keys any of the rows sees.</summary>
        public int Keys { get; private set; }

        /// <summary>Whether no key can have more than a quarter of any of the rows.</summary>
        public bool Bounded { get; set; }

        public List<int> Dominated { get; } = [];

        /// <summary>The exponentials, [key][W], of all keys or of one tile.</summary>
        public T* E { get; }

        public T* A1 { get; }

        public T* Q { get; }

        /// <summary>Sums over a span of keys: the columns', then the row sums.</summary>
        public T* Part { get; }

        public T* Sums { get; }

        public T* F { get; }

        public T* C { get; }

        /// <summary>Y c / l.</summary>
        public T* MixedC { get; }

        /// <summary>The rows of f A3.</summary>
        public T* Mixed { get; }

        public T* DQ { get; }

        /// <summary>What a logit starts from: 0, or minus the row's largest.</summary>
        public T* Start { get; }

        public T* MinusR { get; }

        public T* Inverse { get; }

        public T* Unwanted { get; }

        public T* Zero { get; }

        public void Take(int first, int rows, int keys) => (First, Rows, Keys) = (first, rows, keys);

        public void ClearStart() => new Span<T>(Start, Width).Clear();
    }

    /// <summary>What one thread needs.</summary>
    private sealed class Scratch : IDisposable
    {
        private readonly AlignedBuffer<T> _all;

        public Scratch(int blocks, int kept, int tile, int d, int stride)
        {
            long block = ((long)kept + ((long)Block.Wides * stride) + Block.Vectors) * Width;
            long products = (long)d * stride * V.Count;
            _all = new((blocks * block) + ((long)tile * Width) + (2 * products));
            Blocks = new Block[blocks];
            for (int i = 0; i < blocks; i++)
            {
                Blocks[i] = new(_all.Start + (i * block), kept, stride);
            }

            P = _all.Start + (blocks * block);
            ProductsX = P + ((long)tile * Width);
            ProductsY = ProductsX + products;
        }

        public Block[] Blocks { get; }

        /// <summary>One tile of logits, or of p.</summary>
        public T* P { get; }

        /// <summary>A1ᵀ dQ of the chunk so far, [d][stride][Count]: the lanes are still apart.</summary>
        public T* ProductsX { get; }

        public T* ProductsY { get; }

        public void Dispose() => _all.Dispose();
    }
}
