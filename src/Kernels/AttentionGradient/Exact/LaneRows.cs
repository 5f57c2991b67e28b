using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>The exact gradient of blocks of rows, a row to a lane, keys streamed past them in tiles.</summary>
/// <remarks>
/// With κ = a2 − mean and v = a3 − mean (neither changes p), s = q·κ / divisor, f = e^s / l:
///   G = Σ f v;  F = (G + mean) Y;  c = F − E;  c̃ = Y c;  p = f (c̃·v − c̃·G);  dQ = Σ p κ;  dX = A1ᵀ dQ / divisor;  dY = (G + mean)ᵀ c.
/// So four products of d multiply-adds and one exponential a pair, and h = A3 Y is never made.
///
/// Range     By Cauchy and Schwarz |s| ≤ max‖q‖ max‖κ‖ / divisor within a block. Where that keeps e^s in range, no maximum is subtracted.
///           Any other block first looks for its rows' largest logits, at the price of a fifth product.
/// Dominated A row is not done here if one key has more than a quarter of it, as c̃·v − c̃·G would lose the digits that the other keys
///           have left; nor if keys that tie for the largest have all but an eighth of it, since they may be one key several times, and
///           their shares of dQ = Σ p κ then cancel but for what the others have. <see cref="DominatedRows"/> lists them, for
///           the careful way. Σ e² and max e beside Σ e tell. Where logits spread by at most 3 and by at most log(n / 4), neither can
///           be, and nothing is watched: whatever ties, the others have e⁻³ of their share.
/// Crowds    Where keys of nearly one logit have nearly all of a row, and those are nearly equal, the row goes the careful way too, whichever logit that is (<see cref="FindCrowds"/>).
/// Cache     A tile of keys serves one block or several before the next is fetched, and their exponentials, W n numbers a block, wait for
///           the second half or are made again, with the same bits: <see cref="Reuse"/> says which.
/// Compiled  at once and fully, all that loops: a sweep's first calls would else run code that is twenty times slower.
/// Sums      in T over <see cref="Span"/> keys, those in T again: at n = 131072 no sum has more than 512 terms in a row.
/// </remarks>
internal sealed unsafe class LaneRows<V, T> : Chunks, IDisposable
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // Keys whose sums are kept in registers and first-level cache before they are added to the block's totals.
    private const int Span = 512;

    private const int MostChunks = 128;

    // What a block's worth of work costs more where it fetches its tiles alone.
    private const double TileShare = 0.04;

    // Below it two threads gain less than it takes to wake the second: numbers of the keys, and of a chunk's share.
    private const int LeastShifted = 32 << 10;
    private const int LeastReduced = 8 << 10;

    private const double LogE = 1.4426950408889634;

    // On squares of norms that were summed in T.
    private const double Slack = 1.001;

    // Logits that spread by less, in units of log 2, leave every key e⁻³ of its share of the row: about four bits can cancel.
    private const double NarrowSpread = 3 * LogE;

    // Logits that spread by less, in units of log 2, are taken as they are: Σ e and Σ e² are then below n 2^32 and n 2^64. (A further
    // reach would have c̃ / l underflow in float32 where residuals are of 1e-20.)
    private const double WideSpread = 64;

    // What keys that do not tie must have of a row: three bits can cancel then. (With 1/32, at 0.044 of a row, crowds of equal keys were
    // seen to reach the bar.)
    private const double LeastBesideTies = 1.0 / 8;

    // Of |κ̄|², what the keys' variance in a row must be: three bits can cancel then.
    private const double CrowdSpread = 1.0 / 64;

    // What a chunk writes after its shares of dX and dY: loss, least row sum, largest |logit|, sum of their squares.
    private const int Extras = 4;

    private readonly AttentionProblem<T> _problem;
    private readonly RowSet<T> _rows;
    private readonly GradientOutput<T> _output;
    private readonly CancellationToken _cancellation;
    private readonly int _n, _d, _stride, _tile, _rowsPerChunk, _share;
    private readonly bool _statistics;
    private readonly Reuse _reuse;
    private readonly AlignedBuffer<T> _keys, _values, _norms, _x, _y;
    private readonly AlignedBuffer<double> _shares;
    private readonly List<int>[] _dominated;
    private readonly Doubt[] _doubts;
    private readonly RowsForKeys<T>? _forKeys;
    private readonly T[] _keyMean, _valueMean, _meanF, _meanFLow;
    private double _longestKey, _leastSize, _squareOfValue;
    private bool _valuesAllowWide;

    /// <param name="rows">Which of the problem's rows; the output has as many, and dK and dV need all of them.</param>
    public LaneRows(AttentionProblem<T> problem, RowSet<T> rows, GradientOutput<T> output, KernelContext context)
    {
        _problem = problem;
        _rows = rows;
        _output = output;
        _cancellation = context.Cancellation;
        _statistics = context.Statistics;
        _n = problem.N;
        _d = problem.D;
        _stride = Stride(_d);
        _tile = TileOf(_d);
        _rowsPerChunk = RowsPerChunk(rows.Count, _d);
        ChunkCount = (rows.Count + _rowsPerChunk - 1) / _rowsPerChunk;
        _share = (2 * _d * _d) + Extras;
        _reuse = Reuse.For(_n, _stride, Width, sizeof(T), Math.Max(context.Threads, Environment.ProcessorCount));
        _shares = new((long)ChunkCount * _share);
        _dominated = new List<int>[ChunkCount];
        _doubts = new Doubt[ChunkCount];
        _keyMean = new T[_d];
        _valueMean = new T[_d];
        _meanF = new T[_d];
        _meanFLow = new T[_d];
        if (output.DK is not null || output.DV is not null)
        {
            _forKeys = new(_n, _d, _stride);
            _forKeys.Clear();
        }

        _keys = new((long)_n * _stride);
        _values = new((long)_n * _stride);
        _norms = new(_n);
        _x = new((long)_d * _stride);
        _y = new((long)_d * _stride);
    }

    public int ChunkCount { get; }

    /// <summary>Rows that were left out, ascending.</summary>
    public IEnumerable<int> DominatedRows => _dominated.SelectMany(rows => rows);

    /// <summary>Of the rows that were not.</summary>
    public Doubt Doubt => Doubt.Sum(_doubts);

    private static int Width => Tiles<V, T>.Width;

    /// <summary>Computes dK and dV, if asked for, once the rows are done.</summary>
    public void RunKeys(KernelContext context)
    {
        if (_forKeys is not null)
        {
            KeyColumns<V, T> columns = new(
                _problem, _output, _keys.Start, _values.Start, _stride, _forKeys, context.Threads, context.Cancellation);
            columns.Run(columns.ChunkCount, context.Threads, context.Cancellation);
        }
    }

    /// <summary>Bytes beyond inputs and output, at most.</summary>
    /// <remarks>By the call's threads alone, whatever machine asks: sweeps choose trials by it. On more processors less waits
    /// (<see cref="Reuse"/>).</remarks>
    public static double Bytes(int n, int rows, int d, int threads)
    {
        double stride = Stride(d), width = Width;
        double operands = ((2 * (n + (double)d) * stride) + n) * sizeof(T);
        Reuse reuse = Reuse.For(n, Stride(d), Width, sizeof(T), Math.Max(1, threads));
        double most = Math.Max(Reuse.Group, Reuse.Sharing(2L * n * Stride(d) * sizeof(T), Stride(d), Width));
        double exponentials = Math.Max(reuse.Keeps ? reuse.Blocks * (double)n : 0, most * TileOf(d)) * width;
        double blocks = most * ((Block.Wides * stride) + Block.Vectors) * width;
        double scratch = exponentials + blocks + (Reuse.Group * width * (stride + width)) + ((TileOf(d) + 4) * width);
        return operands + (Math.Max(1, threads) * scratch * sizeof(T)) + (Shares(rows, d) * sizeof(double));
    }

    /// <summary>How many numbers the chunks' shares are: dX, dY and what goes with them, of each chunk.</summary>
    public static double Shares(int rows, int d) =>
        Math.Ceiling((double)rows / RowsPerChunk(rows, d)) * ((2.0 * d * d) + Extras);

    /// <summary>Centres keys and values, and turns the small matrices as the blocks read them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Prepare(int threads, CancellationToken cancellation)
    {
        new Shifts(this).Run(2, (long)_n * _d < LeastShifted ? 1 : threads, cancellation);

        double[] meanF = new double[_stride];
        fixed (T* x = _problem.X, y = _problem.Y)
        fixed (double* sums = meanF)
        {
            Columns<V, T>.Pad(x, _d, _d, _stride, _x.Start);
            Columns<V, T>.Pad(y, _d, _d, _stride, _y.Start);
            _leastSize = LeastSize(_squareOfValue);
            for (int m = 0; m < _d; m++)
            {
                Columns<V, T>.AddTo(_y.Start + ((long)m * _stride), _stride, double.CreateTruncating(_valueMean[m]), sums);
            }
        }

        for (int k = 0; k < _d; k++)
        {
            _meanF[k] = T.CreateTruncating(meanF[k]);
            _meanFLow[k] = T.CreateTruncating(meanF[k] - double.CreateTruncating(_meanF[k]));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void ShiftKeys()
    {
        fixed (T* a2 = _problem.A2, keyMean = _keyMean)
        {
            Centre(a2, keyMean);
            _longestKey = Math.Sqrt(
                double.CreateTruncating(Columns<V, T>.Shift(a2, _n, _d, keyMean, _stride, _keys.Start, _norms.Start)) * Slack);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void ShiftValues()
    {
        fixed (T* a3 = _problem.A3, valueMean = _valueMean)
        {
            Centre(a3, valueMean);
            using AlignedBuffer<T> lengths = new(_n);
            double longest = double.CreateTruncating(Columns<V, T>.Shift(a3, _n, _d, valueMean, _stride, _values.Start, lengths.Start));
            double all = 0;
            for (int j = 0; j < _n; j++)
            {
                all += double.CreateTruncating(lengths.Start[j]);
            }

            if (!_problem.Causal && longest > all / 4)
            {
                // One value drags the mean away from the others, which it would leave the digits of its own size.
                Columns<V, T>.Median(a3, _n, _d, valueMean);
                longest = double.CreateTruncating(Columns<V, T>.Shift(a3, _n, _d, valueMean, _stride, _values.Start, null));
            }

            _squareOfValue = all / _n;
            longest = Math.Sqrt(longest);

            // Σ e v of the range that subtracts no maximum.
            _valuesAllowWide = _n * longest * Math.ScaleB(1, 32) < (typeof(T) == typeof(float) ? 1e37 : 1e300);
        }
    }

    /// <summary>What keys or values are taken relative to: near to those that any row gives weight to.</summary>
    private void Centre(T* rows, T* centre)
    {
        // Under a mask the first rows see the first keys only, and a mean would follow later ones that may be far longer; nor is it the first
        // key's own, to which many models give a length apart.
        const int First = 64;
        if (_problem.Causal)
        {
            Columns<V, T>.Median(rows, Math.Min(_n, First), _d, centre);
        }
        else
        {
            Columns<V, T>.Mean(rows, _n, _d, centre);
        }
    }

    /// <summary>What F − mean F is rounded in where it is small itself, as rows with like weights nearly have the mean: 4 ulp of it are those of a sum
    /// of <see cref="Span"/> terms of the entries' size, and more of such sums have signs of their own.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private double LeastSize(double squareOfValue)
    {
        V mixing = V.Zero;
        long i = 0, all = (long)_d * _stride;
        for (; i <= all - V.Count; i += V.Count)
        {
            V y = V.Load(_y.Start + i);
            mixing = V.MulAdd(y, y, mixing);
        }

        double square = double.CreateTruncating(V.Sum(mixing));
        for (; i < all; i++)
        {
            double y = double.CreateTruncating(_y.Start[i]);
            square += y * y;
        }

        return Math.Sqrt(squareOfValue * square * Math.Min(1, (double)Span / _n)) / (4 * _d);
    }

    /// <summary>Adds the chunks' shares to <paramref name="dX"/> and <paramref name="dY"/> and writes the facts.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Finish(Span<double> dX, Span<double> dY, int threads, CancellationToken cancellation)
    {
        double least = double.PositiveInfinity, largest = 0;
        for (int chunk = 0; chunk < ChunkCount; chunk++)
        {
            Span<double> extras = Share(chunk)[(2 * _d * _d)..];
            least = Math.Min(least, extras[1]);
            largest = Math.Max(largest, extras[2]);
        }

        new Reduction(this).Run((_share + LeastReduced - 1) / LeastReduced, threads, cancellation);
        Span<double> sums = Share(0);
        int i = 0, square = _d * _d;
        double divisor = _problem.Divisor;
        for (Vector<double> all = new(divisor); i <= square - Vector<double>.Count; i += Vector<double>.Count)
        {
            (new Vector<double>(dX[i..]) + (new Vector<double>(sums[i..]) / all)).CopyTo(dX[i..]);
            (new Vector<double>(dY[i..]) + new Vector<double>(sums[(square + i)..])).CopyTo(dY[i..]);
        }

        for (; i < square; i++)
        {
            dX[i] += sums[i] / divisor;
            dY[i] += sums[square + i];
        }

        _output.Loss = sums[2 * _d * _d] / 2;
        _output.MinRowSumOverN = least / _n;
        _output.MaxLogit = _statistics ? largest / LogE : double.NaN;
        double pairs = _rows.Pairs(_problem);
        _output.RmsLogit = _statistics ? Math.Sqrt(sums[(2 * _d * _d) + 3] / pairs) / LogE : double.NaN;
    }

    public void Dispose()
    {
        _shares.Dispose();
        _forKeys?.Dispose();
        _keys.Dispose();
        _values.Dispose();
        _norms.Dispose();
        _x.Dispose();
        _y.Dispose();
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void Take()
    {
        using Scratch scratch = new(_rowsPerChunk / Width, _reuse, _reuse.Keeps ? _n : _tile, _tile, _stride);
        Block[] blocks = scratch.Blocks;
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            Span<double> share = Share(chunk);
            share.Clear();
            share[(2 * _d * _d) + 1] = double.PositiveInfinity;
            List<int> dominated = _dominated[chunk] = [];
            int end = Math.Min(_rows.Count, (chunk + 1) * _rowsPerChunk);
            for (int first = chunk * _rowsPerChunk; first < end; first += blocks.Length * Width)
            {
                int count = 0;
                for (int row = first; row < end && count < blocks.Length; row += Width)
                {
                    int rows = Math.Min(Width, end - row);
                    blocks[count++].Take(row, rows, _problem.Causal ? _rows.PlaceOf(row + rows - 1) + 1 : _n);
                }

                Rows(blocks.AsSpan(0, count), scratch, share, dominated, ref _doubts[chunk]);
            }
        }
    }

    /// <summary>Blocks of one chunk: their gradients, as many at a time as share tiles of keys, then their shares of dX and dY, group by group.</summary>
    private void Rows(Span<Block> blocks, Scratch scratch, Span<double> share, List<int> dominated, ref Doubt doubt)
    {
        for (int first = 0; first < blocks.Length; first += scratch.Sharing)
        {
            Gradients(
                blocks.Slice(first, Math.Min(scratch.Sharing, blocks.Length - first)), scratch, share, dominated, ref doubt);
        }

        for (int first = 0; first < blocks.Length; first += Reuse.Group)
        {
            Span<Block> group = blocks.Slice(first, Math.Min(Reuse.Group, blocks.Length - first));
            AddProduct(group, scratch, share, static b => new(b.A1), static b => new(b.DQ));
            AddProduct(group, scratch, share[(_d * _d)..], static b => new(b.Mixed), static b => new(b.C));
        }
    }

    private Span<double> Share(int chunk) => new(_shares.Start + ((long)chunk * _share), _share);

    private static int Stride(int d) => (d + 3) / 4 * 4;

    // What a loop reads of a tile, keys or values and exponentials, in half of a first-level cache of 48 KiB: it stays there from four
    // columns to the next four, beside the block's queries or sums, which are read once a tile and so the seldomer the longer it is.
    // A power of two, so that spans are of whole tiles: 68 keys instead of 64 took 3 % longer.
    /// <summary>How many keys stream past a block at once: what the inner loops share stays in the first-level cache.</summary>
    internal static int TileOf(int d) =>
        1 << BitOperations.Log2((uint)Math.Clamp((24 << 10) / ((Stride(d) + Width) * sizeof(T)), 16, 128));

    /// <summary>Whole blocks, so many that a call on two, four or eight threads should take the least time.</summary>
    /// <remarks>
    /// In cycles, a row takes 2 n d / lanes, a chunk's d × d shares (cleared, added to, added up) some 3 d², waking the others some 8000; threads
    /// end a quarter of a chunk apart by chance, and a block that shares its tile with no other costs <see cref="TileShare"/> of one more. Large chunks leave
    /// one thread with a chunk too many (11 of 96 rows at n = 1024 and d = 64: two threads took 5 % longer than with 22 of 48), small ones have many shares.
    /// By n, d and the vectors alone, or the bits would depend on more.
    /// </remarks>
    private static int RowsPerChunk(int n, int d)
    {
        // Shares of large d are memory too: no more of them than so.
        int least = RoundUp(Math.Max((n + MostChunks - 1) / MostChunks, Math.Min(d / 2, n / 24))), best = least;
        double lowest = double.PositiveInfinity, row = 2.0 * n * d / V.Count, shares = 3.0 * d * d;
        double alone = Reuse.FitsOwnCache(n, Stride(d), sizeof(T)) ? 0 : TileShare * Width;

        // A plan asks for each of its sizes: some two hundred candidates are enough.
        int step = RoundUp(least / 32);
        for (int rows = least; rows <= RoundUp(Math.Min(n, 8 * least)); rows += step)
        {
            int others = (n - 1) / rows;
            double cycles = 0;
            foreach (int threads in (ReadOnlySpan<int>)[2, 4, 8])
            {
                (int turns, int left) = Math.DivRem(others, threads);
                double most = (turns * rows) + (left == 0 ? n - (others * rows) : rows);
                double busy = (most * (1 + (alone / rows)) * row) + ((turns + 1) * shares);
                cycles += threads * (busy + (others == 0 ? 0 : 8000 + (0.25 * rows * row)));
            }

            (lowest, best) = cycles < lowest ? (cycles, rows) : (lowest, best);
        }

        return best;

        static int RoundUp(int rows) => Math.Max(1, (rows + Width - 1) / Width) * Width;
    }

    /// <summary>c and dQ of blocks that share what is read of the keys, and all else that is told row by row.</summary>
    private void Gradients(Span<Block> blocks, Scratch scratch, Span<double> share, List<int> dominated, ref Doubt doubt)
    {
        foreach (Block block in blocks)
        {
            block.Range = Queries(block);
            if (_statistics)
            {
                Survey(block, scratch.P, share[(2 * _d * _d)..]);
            }

            if (block.Range == Range.Open)
            {
                Largest(block, scratch.P);
            }
            else
            {
                block.ClearStart();
            }
        }

        Forward(blocks);
        bool any = false;
        foreach (Block block in blocks)
        {
            block.Dominated.Clear();
            if (block.Range != Range.Narrow)
            {
                FindCrowds(block);
            }

            Residuals(block, share);
            dominated.AddRange(block.Dominated);
            any |= block.Dominated.Count < block.Rows;
        }

        if (any)
        {
            Backward(blocks, scratch.P);
        }

        foreach (Block block in blocks)
        {
            if (any)
            {
                Clean(block);
                Judge(block, ref doubt);
            }
            else
            {
                block.ClearDQ(_stride);
            }
        }
    }

    /// <summary>Takes the dominated rows out of a finished block, and hands out dQ where it is asked for.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Clean(Block block)
    {
        foreach (int row in block.Dominated)
        {
            // Nothing of such a row may get into the sums, not even a NaN.
            for (int k = 0; k < _d; k++)
            {
                block.DQ[(k * Width) + row - block.First] = T.Zero;
            }
        }

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

    /// <summary>What the residuals of a finished block's rows lost.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Judge(Block block, ref Doubt doubt)
    {
        T* queries = block.Unwanted, a1 = queries + Width, mixed = a1 + Width;
        new Span<T>(queries, 3 * Width).Clear();
        for (int k = 0; k < _d * Width; k += Width)
        {
            for (int v = 0; v < Width; v += V.Count)
            {
                V.Max(V.Load(queries + v), V.Abs(V.Load(block.DQ + k + v))).Store(queries + v);
                V.Max(V.Load(a1 + v), V.Abs(V.Load(block.A1 + k + v))).Store(a1 + v);
                V.Max(V.Load(mixed + v), V.Abs(V.Load(block.Mixed + k + v))).Store(mixed + v);
            }
        }

        for (int v = 0; v < block.Rows; v++)
        {
            if (block.Inverse[v] != T.Zero)
            {
                doubt.Add(
                    double.CreateTruncating(block.Residual[v]), Math.Max(_leastSize, double.CreateTruncating(block.Size[v])),
                    double.CreateTruncating(queries[v]), double.CreateTruncating(a1[v]), double.CreateTruncating(mixed[v]));
            }
        }
    }

    /// <summary>sums += leftᵀ right over the blocks' rows, (d, d), in T within the blocks and in double from there on.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddProduct(
        Span<Block> blocks, Scratch scratch, Span<double> sums, Func<Block, Column> left, Func<Block, Column> right)
    {
        int rows = blocks.Length * Width;
        for (int b = 0; b < blocks.Length; b++)
        {
            Columns<V, T>.ToRows(left(blocks[b]).Start, Width, _d, _stride, scratch.Left + ((long)b * Width * _stride));
        }

        for (int panel = 0; panel < _d; panel += Width)
        {
            int columns = Math.Min(Width, _d - panel);
            for (int b = 0; b < blocks.Length; b++)
            {
                Columns<V, T>.ToRows(
                    right(blocks[b]).Start + ((long)panel * Width), Width, columns, Width, scratch.Right + ((long)b * Width * Width));
            }

            for (int m = 0; m < _d; m += 4)
            {
                new Span<T>(scratch.Product, 4 * Width).Clear();
                Tiles<V, T>.Accumulate(scratch.Left + m, _stride, scratch.Right, rows, scratch.Product);
                for (int i = m; i < Math.Min(_d, m + 4); i++)
                {
                    fixed (double* to = &sums[(i * _d) + panel])
                    {
                        Columns<V, T>.AddTo(scratch.Product + ((long)(i - m) * Width), columns, 1, to);
                    }
                }
            }
        }
    }

    /// <summary>The rows of A1 and their queries, in units of log 2, and how far their logits may lie apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private Range Queries(Block block)
    {
        fixed (T* a1 = &_rows.A1[(long)block.First * _d])
        {
            Columns<V, T>.FromRows(a1, block.Rows, _d, block.A1);
        }

        T* q = block.Q, squares = block.Inverse;
        Multiply(block.A1, _x, q);
        new Span<T>(squares, Width).Clear();

        // Rounded once for all logits: what counts of them is how far they lie from the row's mean, and that is off by a part in 10⁷ then.
        V scale = V.Broadcast(T.CreateTruncating(LogE / _problem.Divisor));
        for (int i = 0; i < _d * Width; i += Width)
        {
            for (int v = 0; v < Width; v += V.Count)
            {
                V value = V.Load(q + i + v) * scale;
                value.Store(q + i + v);
                V.MulAdd(value, value, V.Load(squares + v)).Store(squares + v);
            }
        }

        double widest = 0;
        for (int v = 0; v < block.Rows; v++)
        {
            double spread = 2 * Math.Sqrt(double.CreateTruncating(squares[v]) * Slack) * _longestKey;
            widest = Math.Max(widest, spread);
            block.Wide[v] = !(spread <= NarrowSpread);
        }

        // NaN is open.
        int fewest = _problem.Causal ? _rows.PlaceOf(block.First) + 1 : _n;
        return widest <= Math.Min(NarrowSpread, Math.Log2(fewest) - 2) ? Range.Narrow
            : widest <= WideSpread && _valuesAllowWide ? Range.Wide : Range.Open;
    }

    /// <summary>product = rows × matrix, where rows and product are [column][W].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Multiply(T* rows, AlignedBuffer<T> matrix, T* product)
    {
        new Span<T>(product, _stride * Width).Clear();
        for (int k = 0; k < _stride; k += 4)
        {
            Tiles<V, T>.Accumulate(matrix.Start + k, _stride, rows, _d, product + ((long)k * Width));
        }
    }

    /// <summary>The largest |logit| and the sum of squares, in units of log 2 and of keys as they were given.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
                start[v] += block.Q[(k * Width) + v] * _keyMean[k];
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
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Hide(Block block, int key, int count, T* tile, T value)
    {
        if (_problem.Causal)
        {
            int hidden = 0;
            for (int j = Math.Max(key, _rows.PlaceOf(block.First) + 1); j < key + count; j++)
            {
                while (hidden < Width && _rows.PlaceOf(block.First + hidden) < j)
                {
                    hidden++;
                }

                new Span<T>(tile + ((long)(j - key) * Width), hidden).Fill(value);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Exponentials(Block block, int key, int count, T* to, T* sums)
    {
        bool hides = _problem.Causal && key + count > _rows.PlaceOf(block.First) + 1;
        T* into = hides ? block.Unwanted : sums;
        Tiles<V, T>.Dot<Plain<V, T>>(_keys.Start + ((long)key * _stride), _stride, count, block.Q, _d, block.Start, to, to);
        switch (block.Range)
        {
            case Range.Narrow:
                Tiles<V, T>.Powers<Narrow>(to, count, into);
                break;
            case Range.Wide:
                Tiles<V, T>.Powers<Wide>(to, count, into);
                break;
            default:
                Tiles<V, T>.Powers<Open>(to, count, into);
                break;
        }

        if (hides)
        {
            Hide(block, key, count, to, T.Zero);
            for (int j = 0; j < count; j++)
            {
                T* e = to + ((long)j * Width), squares = sums + Width, cubes = squares + Width, largest = cubes + Width;
                Add(e, sums, 3);
                for (int v = 0; v < Width; v += V.Count)
                {
                    V x = V.Load(e + v);
                    V y = x * x;
                    (V.Load(squares + v) + y).Store(squares + v);
                    V.MulAdd(x, y, V.Load(cubes + v)).Store(cubes + v);
                    V.Max(V.Load(largest + v), x).Store(largest + v);
                }
            }
        }
    }

    /// <summary>Row sums, where it is watched the sums of the exponentials' squares and the largest, and Σ e^s v.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Forward(Span<Block> blocks)
    {
        int keys = 0;
        foreach (Block block in blocks)
        {
            new Span<T>(block.Sums, (_stride + 4) * Width).Clear();
            keys = Math.Max(keys, block.Keys);
        }

        for (int span = 0; span < keys; span += Span)
        {
            int end = Math.Min(keys, span + Span);
            foreach (Block block in blocks)
            {
                new Span<T>(block.Part, (_stride + 4) * Width).Clear();
            }

            for (int key = span; key < end; key += _tile)
            {
                // Not span by span: that of eleven blocks took up to 35 ms at d = 1024.
                _cancellation.ThrowIfCancellationRequested();
                foreach (Block block in blocks)
                {
                    int count = Math.Min(_tile, Math.Min(end, block.Keys) - key);
                    if (count <= 0)
                    {
                        continue;
                    }

                    T* e = _reuse.Keeps ? block.E + ((long)key * Width) : block.E;
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
                Add(block.Part, block.Sums, 3 * (_stride + 3));
                for (long v = (_stride + 3) * Width; v < (_stride + 4) * Width; v += V.Count)
                {
                    V.Max(V.Load(block.Sums + v), V.Load(block.Part + v)).Store(block.Sums + v);
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
            int end = Math.Min(keys, span + Span);
            foreach (Block block in blocks)
            {
                new Span<T>(block.Part, _stride * Width).Clear();
            }

            for (int key = span; key < end; key += _tile)
            {
                _cancellation.ThrowIfCancellationRequested();
                foreach (Block block in blocks)
                {
                    int count = Math.Min(_tile, Math.Min(end, block.Keys) - key);
                    if (count <= 0)
                    {
                        continue;
                    }

                    T* e = _reuse.Keeps ? block.E + ((long)key * Width) : block.E;
                    if (!_reuse.Keeps)
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
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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

        Multiply(g, _y, f);
        fixed (T* e = &_rows.E[(long)block.First * _d], forward = &_output.Forward[(long)block.First * _d])
        {
            // c takes E first. What stands against E is the mean's F in two parts, so that where they are close their
            // difference is as good as E itself.
            Columns<V, T>.FromRows(e, block.Rows, _d, c);
            T* losses = block.Unwanted;
            new Span<T>(losses, Width).Clear();
            new Span<T>(block.Size, Width).Clear();
            new Span<T>(block.Residual, Width).Clear();
            for (int k = 0; k < _d; k++)
            {
                V high = V.Broadcast(_meanF[k]), low = V.Broadcast(_meanFLow[k]);
                for (int v = k * Width; v < (k + 1) * Width; v += w)
                {
                    V part = V.Load(f + v), residual = part + ((high - V.Load(c + v)) + low);
                    int lane = v - (k * Width);
                    V.MulAdd(residual, residual, V.Load(losses + lane)).Store(losses + lane);
                    V.Max(V.Load(block.Size + lane), V.Abs(part)).Store(block.Size + lane);
                    V.Max(V.Load(block.Residual + lane), V.Abs(residual)).Store(block.Residual + lane);
                    residual.Store(c + v);
                    (part + high).Store(f + v);
                }
            }

            Columns<V, T>.ToRows(f, block.Rows, _d, _d, forward);
            double sum = 0, least = double.PositiveInfinity;
            for (int v = 0; v < Width; v++)
            {
                double rowSum = double.CreateTruncating(rowSums[v]);
                if (v < block.Rows && (block.Range == Range.Narrow || IsShared(block, v, ref rowSum)))
                {
                    least = Math.Min(least, rowSum);
                    sum += double.CreateTruncating(losses[v]);
                    continue;
                }

                if (v < block.Rows)
                {
                    block.Dominated.Add(block.First + v);
                }

                inverse[v] = T.Zero;
                for (int k = 0; k < _d; k++)
                {
                    c[(k * Width) + v] = g[(k * Width) + v] = mixed[(k * Width) + v] = T.Zero;
                }
            }

            share[2 * _d * _d] += sum;
            share[(2 * _d * _d) + 1] = Math.Min(share[(2 * _d * _d) + 1], least);
        }

        Tiles<V, T>.Dot<Plain<V, T>>(_y.Start, _stride, _d, c, _d, block.Zero, mixedC, mixedC);
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

    /// <summary>Tells the rows of which a crowd of nearly equal keys has nearly all, whatever its logit: with κ̄ = Σ f κ, their Σ f |κ − κ̄|² is
    /// next to nothing beside |κ̄|², and so is dQ beside the terms of Σ p κ. A fifth product, for blocks where e tells that it may be so:
    /// (Σ e²)² = Σ e Σ e³ where all that counts has one e.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void FindCrowds(Block block)
    {
        T* rowSums = block.Sums + ((long)_stride * Width), squares = rowSums + Width, cubes = squares + Width;
        bool any = false;
        for (int v = 0; v < block.Rows; v++)
        {
            double square = double.CreateTruncating(squares[v]);
            any |= block.Wide[v]
                && square * square >= (1 - LeastBesideTies) * double.CreateTruncating(rowSums[v]) * double.CreateTruncating(cubes[v]);
        }

        Array.Clear(block.Crowded);
        if (!any)
        {
            return;
        }

        // What DQ and C are for comes later.
        T* mean = block.DQ, norms = block.Unwanted;
        new Span<T>(mean, _stride * Width).Clear();
        new Span<T>(norms, Width).Clear();
        for (int key = 0; key < block.Keys; key += _tile)
        {
            _cancellation.ThrowIfCancellationRequested();
            int count = Math.Min(_tile, block.Keys - key);
            T* e = _reuse.Keeps ? block.E + ((long)key * Width) : block.E;
            if (!_reuse.Keeps)
            {
                Exponentials(block, key, count, e, block.Part);
            }

            for (int k = 0; k < _stride; k += 4)
            {
                Tiles<V, T>.Accumulate(_keys.Start + ((long)key * _stride) + k, _stride, e, count, mean + ((long)k * Width));
            }

            AddNorms(key, count, e, norms);
        }

        for (int v = 0; v < block.Rows; v++)
        {
            double sum = double.CreateTruncating(rowSums[v]), far = 0;
            for (int k = 0; k < _d; k++)
            {
                double centre = double.CreateTruncating(mean[(k * Width) + v]) / sum;
                far += centre * centre;
            }

            block.Crowded[v] = block.Wide[v] && (double.CreateTruncating(norms[v]) / sum) - far < far * CrowdSpread;
        }
    }

    /// <summary>norms += Σ_j e[j] |κ_j|².</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddNorms(int key, int count, T* e, T* norms)
    {
        for (int j = 0; j < count; j++)
        {
            V norm = V.Broadcast(_norms.Start[key + j]);
            for (int v = 0; v < Width; v += V.Count)
            {
                V.MulAdd(norm, V.Load(e + ((long)j * Width) + v), V.Load(norms + v)).Store(norms + v);
            }
        }
    }

    /// <summary>Whether many keys share a row: none has more than a quarter, and those that tie for the largest logit not nearly all,
    /// as e² / max e is e where they tie and less elsewhere. Takes the row's sum relative to its largest.</summary>
    private bool IsShared(Block block, int v, ref double rowSum)
    {
        T* squares = block.Sums + ((_stride + 1L) * Width), largest = squares + (2 * Width);
        double square = double.CreateTruncating(squares[v]);

        // Of NaN the open range makes small numbers, next to which nothing is large: there the largest is 1, or the row goes the careful way.
        double most = block.Range == Range.Open ? 1 : double.CreateTruncating(largest[v]);

        rowSum /= most;

        // False for NaN.
        return rowSum >= 4 && !block.Crowded[v] && (!block.Wide[v] || rowSum - (square / (most * most)) >= LeastBesideTies * rowSum);
    }

    /// <summary>What the keys' gradients need of these rows; nothing of a dominated one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Add(T* from, T* to, int vectors)
    {
        for (int i = 0; i < vectors * V.Count; i += V.Count)
        {
            (V.Load(to + i) + V.Load(from + i)).Store(to + i);
        }
    }

    /// <summary>How far a block's logits may lie apart: what <see cref="IRange"/> knows when compiled, told from the data.</summary>
    private enum Range
    {
        Narrow,
        Wide,
        Open,
    }

    /// <summary>A block of rows and what a thread keeps of it; [column][W] arrays and [W] vectors.</summary>
    private sealed class Block
    {
        public const int Wides = 9;
        public const int Vectors = 18;

        public Block(T* at, T* exponentials, int stride)
        {
            long wide = (long)stride * Width;
            T* Next(long length)
            {
                T* taken = at;
                at += length;
                return taken;
            }

            E = exponentials;
            A1 = Next(wide);
            Q = Next(wide);
            Part = Next(wide + (4 * Width));
            Sums = Next(wide + (4 * Width));
            F = Next(wide);
            C = Next(wide);
            MixedC = Next(wide);
            Mixed = Next(wide);
            DQ = Next(wide);
            Start = Next(Width);
            MinusR = Next(Width);
            Inverse = Next(Width);
            Unwanted = Next(4 * Width);
            Size = Next(Width);
            Residual = Next(Width);
            Zero = Next(Width);
            new Span<T>(Zero, Width).Clear();
        }

        public int First { get; private set; }

        /// <summary>How many rows there are; the lanes beyond hold zeros.</summary>
        public int Rows { get; private set; }

        /// <summary>How many keys any of the rows sees.</summary>
        public int Keys { get; private set; }

        /// <summary>How far the logits of any of the rows may lie apart.</summary>
        public Range Range { get; set; }

        /// <summary>Row by row, whether a crowd of nearly equal keys has nearly all of it.</summary>
        public bool[] Crowded { get; } = new bool[Width];

        /// <summary>Row by row, whether the logits may spread by more than <see cref="NarrowSpread"/>.</summary>
        public bool[] Wide { get; } = new bool[Width];

        public List<int> Dominated { get; } = [];

        /// <summary>The exponentials, [key][W], of all keys or of one tile; where blocks do not share tiles of keys each overwrites the
        /// last one's.</summary>
        public T* E { get; }

        public T* A1 { get; }

        public T* Q { get; }

        /// <summary>Sums over a span of keys: the columns', then the row sums, those of the exponentials' squares and cubes, and the largest
        /// of the exponentials.</summary>
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

        /// <summary>The largest |F − mean F| of each row.</summary>
        public T* Size { get; }

        /// <summary>The largest |c| of each row.</summary>
        public T* Residual { get; }

        public T* Zero { get; }

        public void Take(int first, int rows, int keys) => (First, Rows, Keys) = (first, rows, keys);

        public void ClearStart() => new Span<T>(Start, Width).Clear();

        public void ClearDQ(int stride) => new Span<T>(DQ, stride * Width).Clear();
    }

    /// <summary>A [column][W] array of a block; a pointer cannot be what a delegate returns.</summary>
    private readonly struct Column(T* start)
    {
        public T* Start { get; } = start;
    }

    /// <summary>What one thread needs.</summary>
    /// <summary>Keys and values relative to what they are centred at: one chunk each.</summary>
    private sealed class Shifts(LaneRows<V, T> rows) : Chunks
    {
        protected override void Take()
        {
            for (int chunk = Next(); chunk >= 0; chunk = Next())
            {
                if (chunk == 0)
                {
                    rows.ShiftKeys();
                }
                else
                {
                    rows.ShiftValues();
                }
            }
        }
    }

    /// <summary>The chunks' shares, added up a few columns at a time: in the same order whoever does it.</summary>
    private sealed class Reduction(LaneRows<V, T> rows) : Chunks
    {
        protected override void Take()
        {
            Span<double> table = new(rows._shares.Start, rows.ChunkCount * rows._share);
            for (int piece = Next(); piece >= 0; piece = Next())
            {
                int first = piece * LeastReduced;
                ReduceTree(table, rows.ChunkCount, rows._share, first, Math.Min(LeastReduced, rows._share - first));
            }
        }
    }

    private sealed class Scratch : IDisposable
    {
        private readonly AlignedBuffer<T> _all;

        /// <param name="blocks">How many a chunk has.</param>
        /// <param name="kept">Of how many keys exponentials are held.</param>
        public Scratch(int blocks, Reuse reuse, int kept, int tile, int stride)
        {
            Sharing = reuse.Of(blocks);
            Blocks = new Block[Math.Min(blocks, Math.Max(Sharing, Reuse.Group))];
            long exponentials = (long)kept * Width, block = (((long)Block.Wides * stride) + Block.Vectors) * Width;
            long group = (long)Reuse.Group * Width;
            _all = new(
                (Sharing * exponentials) + (Blocks.Length * block) + ((long)tile * Width) + (group * (stride + Width)) + (4L * Width));
            T* all = _all.Start + (Sharing * exponentials);
            for (int i = 0; i < Blocks.Length; i++)
            {
                Blocks[i] = new(all + (i * block), _all.Start + (i % Sharing * exponentials), stride);
            }

            P = all + (Blocks.Length * block);
            Right = P + ((long)tile * Width);
            Product = Right + (group * Width);
            Left = Product + (4L * Width);
        }

        /// <summary>How many blocks share what is read of the keys.</summary>
        public int Sharing { get; }

        public Block[] Blocks { get; }

        /// <summary>One tile of logits, or of p.</summary>
        public T* P { get; }

        /// <summary>The blocks' rows one after another, [row][stride].</summary>
        public T* Left { get; }

        /// <summary>W columns of the blocks' rows, [row][W].</summary>
        public T* Right { get; }

        /// <summary>Four rows of W columns of a product.</summary>
        public T* Product { get; }

        public void Dispose() => _all.Dispose();
    }
}
