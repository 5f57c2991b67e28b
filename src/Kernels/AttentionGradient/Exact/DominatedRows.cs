using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>Rows of which few keys have nearly everything: four at a time, keys in the vector's lanes, logits in double.</summary>
/// <remarks>
/// For a row with largest logit s* at key *, and s' the largest of the others, let ρ = e^(s' − s*) and
/// w_j = e^(s_j − s') for j ≠ *, w_* = 0. Then with h'_j = h_j − h*, κ'_j = a2_j − a2*:
///   Z = 1 + ρ Σ w_j;  G = ρ Σ w_j h'_j / Z;  F = G + h*;  c = G + (h* − E);
///   dQ = ρ/Z (Σ w_j (c·(h_j − F)) (a2_j − κ̄) + c·G/ρ (κ̄ − a2*));  dX = A1ᵀ dQ / d, κ̄ = a2* + ρ Σ w_j κ'_j / Z.
/// It is the textbook formula, the sums taken relative to the row's largest key and then to the row's means (rows of p sum
/// to 0, so nothing changes), with the factor ρ kept apart in double: where one key dominates a row, nothing cancels and
/// float32 does not underflow.
/// Memory    O(n) a thread (4 n (8 + sizeof T) bytes) and O(n d) for the operands, transposed.
/// Error     logits in double whatever T is (the few that count in double-double where they are large), the O(n) sums in T over
///           tiles of 128 keys, then double. Measured: README.md.
/// </remarks>
internal sealed class DominatedRows<T> : Chunks, IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Block = 4;

    // Short enough that a lane adds 16 or 32 numbers of type T before double takes over, and that a tile of four rows stays
    // in the first-level cache between its stages.
    private const int Tile = 128;

    // Below this |logit| an ulp of it is lost in the rest of the arithmetic.
    private const double Large = 32;

    // What a chunk of rows writes after its d × d shares of A1ᵀ dQ and (f A3)ᵀ c: loss and least row sum.
    private const int Extras = 2;

    private readonly AttentionProblem<T> _problem;
    private readonly RowSet<T> _set;
    private readonly GradientOutput<T> _output;
    private readonly CancellationToken _cancellation;
    private readonly int[] _rows;
    private readonly Doubt[] _doubts;
    // Under a mask the dominated rows are mostly the first, and need the first keys only.
    private readonly int _seen, _d, _wide, _even, _keys, _rowsPerChunk, _share;
    private readonly double[] _q, _qLow, _h, _hLow, _a2Wide, _shares;
    private readonly T[] _a2, _a3, _hT;

    /// <param name="set">The rows of the call.</param>
    /// <param name="rows">Which of the set's, ascending.</param>
    public DominatedRows(
        AttentionProblem<T> problem, RowSet<T> set, int[] rows, GradientOutput<T> output, CancellationToken cancellation)
    {
        _set = set;
        _rows = rows;
        _problem = problem;
        _output = output;
        _cancellation = cancellation;
        _seen = problem.Causal ? set.PlaceOf(rows[^1]) + 1 : problem.N;
        _d = problem.D;
        _wide = Projection.Padded(_d);
        _even = _d + (_d & 1);
        _keys = PaddedKeys(_seen);
        _rowsPerChunk = RowsPerChunk(rows.Length);
        ChunkCount = CountChunks(rows.Length);
        _share = (2 * _d * _d) + Extras;
        _doubts = new Doubt[ChunkCount];
        _q = ScratchMemory.Rent<double>(checked(rows.Length * _wide));
        _qLow = ScratchMemory.Rent<double>(rows.Length * _wide);
        _h = ScratchMemory.Rent<double>(checked(_seen * _wide));
        _hLow = ScratchMemory.Rent<double>(_seen * _wide);
        _a2Wide = ScratchMemory.Rent<double>(checked(_keys * _even));
        _a2 = typeof(T) == typeof(double) ? (T[])(object)_a2Wide : ScratchMemory.Rent<T>(_keys * _even);
        _a3 = ScratchMemory.Rent<T>(_keys * _even);
        _hT = ScratchMemory.Rent<T>(_keys * _even);
        _shares = ScratchMemory.Rent<double>(checked(ChunkCount * _share));
    }

    public int ChunkCount { get; }

    public Doubt Doubt => Doubt.Sum(_doubts);

    private int RowValues => 5 * Block * _even;

    private int RowConstants => (6 * Block * _even) + Block;

    // Sixty-four chunks at most: enough for any machine's threads, and d × d shares that stay small beside the operands.
    public static int RowsPerChunk(int n) => Math.Max(64, (((n + 63) / 64) + Block - 1) / Block * Block);

    public static int CountChunks(int n) => (n + RowsPerChunk(n) - 1) / RowsPerChunk(n);

    public static int PaddedKeys(int n)
    {
        int unit = 2 * Vector<double>.Count;
        return checked((n + unit - 1) / unit * unit);
    }

    /// <summary>Bytes beyond inputs and output, where every row is dominated.</summary>
    public static unsafe double Bytes(int n, int rows, int d, int threads)
    {
        double wide = Projection.Padded(d), keys = PaddedKeys(n);
        double operands = (8 * 2 * ((double)rows + n) * wide) + (keys * (d + 1) * ((3 * sizeof(T)) + 8));
        double scratch = 4 * keys * (8 + sizeof(T)) * Math.Max(1, threads);
        return operands + scratch + ((double)CountChunks(rows) * ((2 * d * d) + Extras) * 8);
    }

    /// <summary>Q = A1 X / divisor, h = A3 Y, and transposed the keys, the values and h less its median.</summary>
    public void Prepare()
    {
        const int Step = 1024;
        for (int first = 0; first < _seen; first += Step)
        {
            _cancellation.ThrowIfCancellationRequested();
            int rows = Math.Min(Step, _seen - first);
            Projection.Multiply(_problem.A3, _problem.Y, first, rows, _d, _h, _hLow);
        }

        Projection.Multiply(_set.A1, _problem.X, _rows, _d, _q, _qLow);
        double divisor = _problem.Divisor;
        for (int i = 0; i < _rows.Length * _wide; i++)
        {
            double high = _q[i] / divisor;
            double back = high * divisor;
            _qLow[i] = ((_q[i] - back) - ProductError.Of(high, divisor, back) + _qLow[i]) / divisor;
            _q[i] = high;
        }

        Transpose();
    }

    /// <summary>Adds the rows' shares to <paramref name="dX"/> and <paramref name="dY"/>, and to the facts of the output.</summary>
    public void Finish(Span<double> dX, Span<double> dY)
    {
        double least = double.PositiveInfinity;
        for (int chunk = 0; chunk < ChunkCount; chunk++)
        {
            least = Math.Min(least, _shares[(chunk * _share) + (2 * _d * _d) + 1]);
        }

        ReduceTree(_shares.AsSpan(0, ChunkCount * _share), ChunkCount, _share);
        for (int i = 0; i < _d * _d; i++)
        {
            dX[i] += _shares[i] / _problem.Divisor;
            dY[i] += _shares[(_d * _d) + i];
        }

        _output.Loss += _shares[2 * _d * _d] / 2;
        _output.MinRowSumOverN = Math.Min(_output.MinRowSumOverN, least / _problem.N);
    }

    public void Dispose()
    {
        ScratchMemory.Return(_q);
        ScratchMemory.Return(_qLow);
        ScratchMemory.Return(_h);
        ScratchMemory.Return(_hLow);
        ScratchMemory.Return(_a2Wide);
        ScratchMemory.Return(_shares);
        ScratchMemory.Return(_a3);
        ScratchMemory.Return(_hT);
        if (typeof(T) != typeof(double))
        {
            ScratchMemory.Return(_a2);
        }
    }

    protected override unsafe void Take()
    {
        double[] logits = ScratchMemory.Rent<double>(checked(Block * _keys));
        T[] weights = ScratchMemory.Rent<T>(Block * _keys);
        double[] rowValues = ScratchMemory.Rent<double>(RowValues);
        T[] rowConstants = ScratchMemory.Rent<T>(RowConstants);
        try
        {
            fixed (double* s = logits, values = rowValues)
            fixed (T* w = weights, constants = rowConstants)
            {
                for (int chunk = Next(); chunk >= 0; chunk = Next())
                {
                    Span<double> share = _shares.AsSpan(chunk * _share, _share);
                    share.Clear();
                    share[(2 * _d * _d) + 1] = double.PositiveInfinity;
                    int end = Math.Min(_rows.Length, (chunk + 1) * _rowsPerChunk);
                    for (int row = chunk * _rowsPerChunk; row < end; row += Block)
                    {
                        _cancellation.ThrowIfCancellationRequested();
                        Rows(row, Math.Min(Block, end - row), s, w, values, constants, share, ref _doubts[chunk]);
                    }
                }
            }
        }
        finally
        {
            ScratchMemory.Return(logits);
            ScratchMemory.Return(weights);
            ScratchMemory.Return(rowValues);
            ScratchMemory.Return(rowConstants);
        }
    }

    // A block always has four rows; where the matrix ends sooner the last row stands in, and its copies are not counted.
    private unsafe void Rows(
        int first, int count, double* s, T* w, double* values, T* constants, Span<double> share, ref Doubt doubt)
    {
        double* g = values, c = g + (Block * _even), dQ = c + (Block * _even), keyMean = dQ + (Block * _even), valueMean = keyMean + (Block * _even);
        T* hStar = constants, keyStar = hStar + (Block * _even), hMean = keyStar + (Block * _even);
        T* keyCentre = hMean + (Block * _even), cT = keyCentre + (Block * _even), valueStar = cT + (Block * _even);
        T* offset = valueStar + (Block * _even);
        new Span<double>(values, RowValues).Clear();
        new Span<T>(constants, RowConstants).Clear();
        Logits(first, s);

        Span<int> star = stackalloc int[Block];
        Span<double> others = stackalloc double[Block];
        Span<double> rho = stackalloc double[Block];
        Span<double> factor = stackalloc double[Block];
        for (int r = 0; r < Block; r++)
        {
            (star[r], rho[r], others[r]) = Weights(
                Math.Min(first + r, _rows.Length - 1), s + ((long)r * _keys), w + ((long)r * _keys));
            for (int k = 0; k < _d; k++)
            {
                hStar[(r * _even) + k] = _hT[((long)k * _keys) + star[r]];
                keyStar[(r * _even) + k] = _a2[((long)k * _keys) + star[r]];
                valueStar[(r * _even) + k] = _a3[((long)k * _keys) + star[r]];
            }
        }

        fixed (T* h = _hT, a2 = _a2, a3 = _a3)
        {
            for (int tile = 0; tile < _keys; tile += Tile)
            {
                int length = Math.Min(Tile, _keys - tile);
                WeightedSums(w + tile, length, h + tile, hStar, g);
                WeightedSums(w + tile, length, a2 + tile, keyStar, keyMean);
                WeightedSums(w + tile, length, a3 + tile, valueStar, valueMean);
            }

            for (int r = 0; r < count; r++)
            {
                int at = r * _even;
                factor[r] = Residual(
                    _rows[first + r], star[r], rho[r], others[r], g + at, c + at, hStar + at, hMean + at, cT + at, offset + r, share,
                    out double ofStar);

                // Around the row's mean key the terms are as small as they can be, and what p's sum over the row lacks to
                // 0 is multiplied by nothing. Key *, which has no weight of its own here, then has a share of dQ.
                for (int k = 0; k < _d; k++)
                {
                    double keyOfStar = double.CreateTruncating(keyStar[at + k]);
                    double mean = rho[r] * keyMean[at + k] / (1 + (rho[r] * others[r]));
                    keyCentre[at + k] = T.CreateTruncating(keyOfStar + mean);
                    dQ[at + k] = ofStar * (double.CreateTruncating(keyCentre[at + k]) - keyOfStar);
                }
            }

            for (int tile = 0; tile < _keys; tile += Tile)
            {
                int length = Math.Min(Tile, _keys - tile);
                Backward(w + tile, length, h + tile, hMean, cT, offset);
                WeightedSums(w + tile, length, a2 + tile, keyCentre, dQ);
            }
        }

        for (int r = 0; r < count; r++)
        {
            long row = (long)_rows[first + r] * _d;
            int at = r * _even;
            double spread = rho[r] / (1 + (rho[r] * others[r])), largestValue = 0;
            for (int m = 0; m < _d; m++)
            {
                double a1 = factor[r] * double.CreateTruncating(_set.A1[row + m]);
                double value = double.CreateTruncating(valueStar[at + m]) + (spread * valueMean[at + m]);
                largestValue = Math.Max(largestValue, Math.Abs(value));
                for (int k = 0; k < _d; k++)
                {
                    share[(m * _d) + k] += a1 * dQ[at + k];
                    share[(_d * _d) + (m * _d) + k] += value * c[at + k];
                }

                if (_output.DQ is T[] wanted)
                {
                    wanted[row + m] = T.CreateTruncating(factor[r] * dQ[at + m] / _problem.Divisor);
                }
            }

            Judge(row, rho[r], factor[r], g + at, c + at, dQ + at, largestValue, ref doubt);
        }
    }

    /// <summary>What a row's residual lost: it is the sum of h* − E, which has all digits, and ρ G, which has those of T.</summary>
    private unsafe void Judge(long row, double rho, double factor, double* g, double* c, double* dQ, double value, ref Doubt doubt)
    {
        double size = 0, residual = 0, query = 0, a1 = 0;
        for (int k = 0; k < _d; k++)
        {
            size = Math.Max(size, Math.Abs(rho * g[k]));
            residual = Math.Max(residual, Math.Abs(c[k]));
            query = Math.Max(query, Math.Abs(factor * dQ[k]));
            a1 = Math.Max(a1, Math.Abs(double.CreateTruncating(_set.A1[row + k])));
        }

        doubt.Add(residual, size, query, a1, value);
    }

    /// <summary>s[r][j] = q_r · a2_j in double, for four rows and every key.</summary>
    /// <remarks>Columns are summed eight at a time: at d = 64 one running sum had 2.5 times the rounding error.</remarks>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private unsafe void Logits(int first, double* s)
    {
        const int Group = 8;
        int v = Vector<double>.Count;
        fixed (double* q = _q, a2 = _a2Wide)
        {
            double* q0 = q + ((long)first * _wide);
            double* q1 = q + ((long)Math.Min(first + 1, _rows.Length - 1) * _wide);
            double* q2 = q + ((long)Math.Min(first + 2, _rows.Length - 1) * _wide);
            double* q3 = q + ((long)Math.Min(first + 3, _rows.Length - 1) * _wide);
            for (int j = 0; j < _keys; j += 2 * v)
            {
                for (int start = 0; start < _d; start += Group)
                {
                    Vector<double> s00 = Vector<double>.Zero, s01 = s00, s10 = s00, s11 = s00;
                    Vector<double> s20 = s00, s21 = s00, s30 = s00, s31 = s00;
                    int end = Math.Min(_d, start + Group);
                    for (int k = start; k < end; k++)
                    {
                        double* key = a2 + ((long)k * _keys) + j;
                        Vector<double> x0 = Vector.Load(key), x1 = Vector.Load(key + v);
                        Vector<double> y = Vector.Create(q0[k]);
                        s00 = Lanes.MulAdd(y, x0, s00);
                        s01 = Lanes.MulAdd(y, x1, s01);
                        y = Vector.Create(q1[k]);
                        s10 = Lanes.MulAdd(y, x0, s10);
                        s11 = Lanes.MulAdd(y, x1, s11);
                        y = Vector.Create(q2[k]);
                        s20 = Lanes.MulAdd(y, x0, s20);
                        s21 = Lanes.MulAdd(y, x1, s21);
                        y = Vector.Create(q3[k]);
                        s30 = Lanes.MulAdd(y, x0, s30);
                        s31 = Lanes.MulAdd(y, x1, s31);
                    }

                    double* at = s + j;
                    if (start == 0)
                    {
                        Store2(s00, s01, at);
                        Store2(s10, s11, at + _keys);
                        Store2(s20, s21, at + (2L * _keys));
                        Store2(s30, s31, at + (3L * _keys));
                    }
                    else
                    {
                        Add2(s00, s01, at);
                        Add2(s10, s11, at + _keys);
                        Add2(s20, s21, at + (2L * _keys));
                        Add2(s30, s31, at + (3L * _keys));
                    }
                }
            }
        }
    }

    /// <summary>One row's largest key, ρ, the weights of the other keys and their sum.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private unsafe (int Star, double Rho, double Others) Weights(int row, double* s, T* w)
    {
        int v = Vector<double>.Count;
        Vector<double> most = Vector.Create(double.NegativeInfinity), absolute = Vector<double>.Zero;
        int visible = _problem.Causal ? _set.PlaceOf(_rows[row]) + 1 : _seen;
        for (int j = visible; j < _keys; j++)
        {
            // A key that is hidden or only fills up the vector must not be the largest, and weighs nothing.
            s[j] = double.NegativeInfinity;
        }

        int whole = visible / v * v;
        for (int j = 0; j < whole; j += v)
        {
            Vector<double> x = Vector.Load(s + j);
            most = Vector.MaxNative(most, x);
            absolute = Vector.MaxNative(absolute, Vector.Abs(x));
        }

        double largest = double.NegativeInfinity, magnitude = 0;
        for (int lane = 0; lane < v; lane++)
        {
            largest = Math.Max(largest, most[lane]);
            magnitude = Math.Max(magnitude, absolute[lane]);
        }

        for (int j = whole; j < visible; j++)
        {
            largest = Math.Max(largest, s[j]);
            magnitude = Math.Max(magnitude, Math.Abs(s[j]));
        }

        // Not found means a NaN among the logits, which the weights below carry into the result, where it is refused.
        int star = Math.Max(0, new ReadOnlySpan<double>(s, visible).IndexOf(largest));
        double starLogit = s[star];
        s[star] = double.NegativeInfinity;
        most = Vector.Create(double.NegativeInfinity);
        for (int j = 0; j < _keys; j += v)
        {
            most = Vector.MaxNative(most, Vector.Load(s + j));
        }

        double second = double.NegativeInfinity;
        for (int lane = 0; lane < v; lane++)
        {
            second = Math.Max(second, most[lane]);
        }

        if (visible == 1)
        {
            new Span<T>(w, _keys).Clear();
            return (star, 0, double.IsFinite(starLogit) ? 0 : double.NaN);
        }

        if (typeof(T) == typeof(double) && magnitude > Large)
        {
            second = Refine(row, star, starLogit, second, s);
            starLogit = 0;
        }

        Vector<double> offset = Vector.Create(second);
        double sum = 0;
        for (int tile = 0; tile < _keys; tile += Tile)
        {
            Vector<T> partial = Vector<T>.Zero;
            int end = Math.Min(_keys, tile + Tile);
            for (int j = tile; j < end; j += Vector<T>.Count)
            {
                Vector<T> t = typeof(T) == typeof(float)
                    ? Vector.Narrow(Vector.Load(s + j) - offset, Vector.Load(s + j + v) - offset).As<float, T>()
                    : (Vector.Load(s + j) - offset).As<double, T>();
                Vector<T> weight = Lanes.Exp(t);
                Vector.Store(weight, w + j);
                partial += weight;
            }

            sum += double.CreateTruncating(Vector.Sum(partial));
        }

        return (star, Math.Exp(second - starLogit), sum);
    }

    /// <summary>Replaces the logits by their distance from the largest, with all digits where that counts.</summary>
    /// <returns>The second largest.</returns>
    /// <remarks>
    /// A logit of size L carries an error of a few ulp of L, which is a relative error of its weight; where rows cancel
    /// that was seen to reach 27 ulp of L in the gradient, three times the bar. Only the keys within 12 of the second
    /// matter, the others having a hundred-thousandth of its weight, and where logits are large those are few.
    /// </remarks>
    private unsafe double Refine(int row, int star, double starLogit, double second, double* s)
    {
        const double Window = 12;
        double least = second - Window, most = double.NegativeInfinity;
        for (int j = 0; j < _seen; j++)
        {
            if (s[j] >= least)
            {
                DoubleDouble sum = DoubleDouble.Zero;
                for (int k = 0; k < _d; k++)
                {
                    long at = ((long)row * _wide) + k, column = (long)k * _keys;
                    sum += new DoubleDouble(_q[at], _qLow[at])
                        * DoubleDouble.Sum(_a2Wide[column + j], -_a2Wide[column + star]);
                }

                s[j] = (double)sum;
            }
            else
            {
                s[j] -= starLogit;
            }

            most = Math.Max(most, s[j]);
        }

        return most;
    }

    /// <summary>sums[r][k] += Σ_j w[r][j] (x[k][j] − star[r][k]), for four rows, every column and one tile of keys.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private unsafe void WeightedSums(T* w, int length, T* x, T* star, double* sums)
    {
        T* w1 = w + _keys, w2 = w1 + _keys, w3 = w2 + _keys;
        for (int k = 0; k < _even; k += 2)
        {
            T* x0 = x + ((long)k * _keys), x1 = x0 + _keys;
            Vector<T> s00 = Vector<T>.Zero, s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
            Vector<T> t00 = Vector.Create(star[k]), t01 = Vector.Create(star[k + 1]);
            Vector<T> t10 = Vector.Create(star[_even + k]), t11 = Vector.Create(star[_even + k + 1]);
            Vector<T> t20 = Vector.Create(star[(2 * _even) + k]), t21 = Vector.Create(star[(2 * _even) + k + 1]);
            Vector<T> t30 = Vector.Create(star[(3 * _even) + k]), t31 = Vector.Create(star[(3 * _even) + k + 1]);
            for (int j = 0; j < length; j += Vector<T>.Count)
            {
                Vector<T> a = Vector.Load(x0 + j), b = Vector.Load(x1 + j);
                Vector<T> y = Vector.Load(w + j);
                s00 = Lanes.MulAdd(y, a - t00, s00);
                s01 = Lanes.MulAdd(y, b - t01, s01);
                y = Vector.Load(w1 + j);
                s10 = Lanes.MulAdd(y, a - t10, s10);
                s11 = Lanes.MulAdd(y, b - t11, s11);
                y = Vector.Load(w2 + j);
                s20 = Lanes.MulAdd(y, a - t20, s20);
                s21 = Lanes.MulAdd(y, b - t21, s21);
                y = Vector.Load(w3 + j);
                s30 = Lanes.MulAdd(y, a - t30, s30);
                s31 = Lanes.MulAdd(y, b - t31, s31);
            }

            sums[k] += double.CreateTruncating(Vector.Sum(s00));
            sums[k + 1] += double.CreateTruncating(Vector.Sum(s01));
            sums[_even + k] += double.CreateTruncating(Vector.Sum(s10));
            sums[_even + k + 1] += double.CreateTruncating(Vector.Sum(s11));
            sums[(2 * _even) + k] += double.CreateTruncating(Vector.Sum(s20));
            sums[(2 * _even) + k + 1] += double.CreateTruncating(Vector.Sum(s21));
            sums[(3 * _even) + k] += double.CreateTruncating(Vector.Sum(s30));
            sums[(3 * _even) + k + 1] += double.CreateTruncating(Vector.Sum(s31));
        }
    }

    /// <summary>G, F and c of one row in double; F in T, and c in T, scaled to a largest entry of 1.</summary>
    /// <param name="offset">c·(F − F in T), which <see cref="Backward"/> takes off.</param>
    /// <param name="ofStar">−p_* over the factor, c·G / ρ.</param>
    /// <returns>The factor of the row's dQ.</returns>
    private unsafe double Residual(
        int row, int star, double rho, double others, double* g, double* c, T* hStar, T* hMean, T* cT, T* offset,
        Span<double> share, out double ofStar)
    {
        double rowSum = 1 + (rho * others), largest = 0, loss = 0;
        ofStar = 0;
        for (int k = 0; k < _d; k++)
        {
            double high = _h[((long)star * _wide) + k], low = _hLow[((long)star * _wide) + k];
            double e = double.CreateTruncating(_set.E[((long)row * _d) + k]);

            // h* − E keeps its rounding error: where E is that very row of h, what is left is all there is.
            DoubleDouble gap = DoubleDouble.Sum(high, -e);
            g[k] /= rowSum;
            c[k] = gap.High + ((rho * g[k]) + (gap.Low + low));
            loss += c[k] * c[k];
            largest = Math.Max(largest, Math.Abs(c[k]));
            _output.Forward[((long)row * _d) + k] = T.CreateTruncating(high + (rho * g[k]));
        }

        share[2 * _d * _d] += loss;
        share[(2 * _d * _d) + 1] = Math.Min(share[(2 * _d * _d) + 1], rowSum);
        if (largest == 0)
        {
            return 0;
        }

        // Both are made of the numbers that Backward sees, c and h in T, so that the row's p sums to 0.
        double product = 0;
        for (int k = 0; k < _d; k++)
        {
            cT[k] = T.CreateTruncating(c[k] / largest);
            double scaled = double.CreateTruncating(cT[k]), h = double.CreateTruncating(hStar[k]), mean = rho * g[k];
            hMean[k] = T.CreateTruncating(h + mean);
            product += scaled * (h - double.CreateTruncating(hMean[k]) + mean);
            ofStar += scaled * g[k];
        }

        *offset = T.CreateTruncating(product);
        return largest * rho / rowSum;
    }

    /// <summary>w[r][j] *= c_r·(h_j − mean_r) − offset_r, for four rows and one tile of keys.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private unsafe void Backward(T* w, int length, T* h, T* mean, T* c, T* offset)
    {
        T* h1 = mean + _even, h2 = h1 + _even, h3 = h2 + _even, c1 = c + _even, c2 = c1 + _even, c3 = c2 + _even;
        T* w1 = w + _keys, w2 = w1 + _keys, w3 = w2 + _keys;
        for (int j = 0; j < length; j += Vector<T>.Count)
        {
            Vector<T> v0 = -Vector.Create(offset[0]), v1 = -Vector.Create(offset[1]);
            Vector<T> v2 = -Vector.Create(offset[2]), v3 = -Vector.Create(offset[3]);
            for (int k = 0; k < _d; k++)
            {
                Vector<T> x = Vector.Load(h + ((long)k * _keys) + j);
                v0 = Lanes.MulAdd(Vector.Create(c[k]), x - Vector.Create(mean[k]), v0);
                v1 = Lanes.MulAdd(Vector.Create(c1[k]), x - Vector.Create(h1[k]), v1);
                v2 = Lanes.MulAdd(Vector.Create(c2[k]), x - Vector.Create(h2[k]), v2);
                v3 = Lanes.MulAdd(Vector.Create(c3[k]), x - Vector.Create(h3[k]), v3);
            }

            Vector.Store(Vector.Load(w + j) * v0, w + j);
            Vector.Store(Vector.Load(w1 + j) * v1, w1 + j);
            Vector.Store(Vector.Load(w2 + j) * v2, w2 + j);
            Vector.Store(Vector.Load(w3 + j) * v3, w3 + j);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static unsafe void Store2(Vector<double> a, Vector<double> b, double* at)
    {
        Vector.Store(a, at);
        Vector.Store(b, at + Vector<double>.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static unsafe void Add2(Vector<double> a, Vector<double> b, double* at) =>
        Store2(Vector.Load(at) + a, Vector.Load(at + Vector<double>.Count) + b, at);

    private void Transpose()
    {
        // Padding keys and the odd last column are zeros: their weights are 0, and 0 times anything finite adds nothing.
        for (int k = 0; k < _even; k++)
        {
            int at = k * _keys;
            double centre = k < _d ? Centre(k) : 0;
            for (int j = 0; j < _keys; j++)
            {
                bool inside = k < _d && j < _seen;
                T key = inside ? _problem.A2[(j * _d) + k] : T.Zero;
                _a2Wide[at + j] = double.CreateTruncating(key);
                _a2[at + j] = key;
                _a3[at + j] = inside ? _problem.A3[(j * _d) + k] : T.Zero;
                _hT[at + j] = inside ? T.CreateTruncating(_h[(j * _wide) + k] - centre + _hLow[(j * _wide) + k]) : T.Zero;
            }
        }
    }

    /// <summary>A column's typical value of h: the median, of every so manyth key where there are many.</summary>
    /// <remarks>Only differences of <see cref="_hT"/> are used, and where all values lie far from 0 they would be lost to the rounding
    /// of h: offset by 1e5, a gradient was off by 10 times the bar. A mean would do the same to the others where one value is huge.</remarks>
    private double Centre(int column)
    {
        const int Most = 1024;
        int step = (_seen + Most - 1) / Most;
        double[] sample = new double[(_seen + step - 1) / step];
        for (int i = 0; i < sample.Length; i++)
        {
            sample[i] = _h[(i * step * _wide) + column];
        }

        Array.Sort(sample);
        return sample[sample.Length / 2];
    }
}
