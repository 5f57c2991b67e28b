using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>Nyström attention: f ≈ L Z R with m landmarks, the means of m runs of queries and of keys.</summary>
/// <remarks>
/// Forward   L = softmax(Q K̃ᵀ), A = softmax(Q̃ K̃ᵀ), R = softmax(Q̃ Kᵀ), Z ≈ A⁺ by <see cref="PseudoInverse"/>;
///           B = R h;  W = Z B;  F = L W;  c = F − E.  A run is n/m rows, or one more or less where m does not divide n.
/// Backward  reverse form: the true gradient of the loss so approximated, through Q, through Q̃ (in A and R too) and through the
///           iteration:  W̄ = Lᵀ c;  Z̄ = W̄ Bᵀ;  B̄ = Zᵀ W̄;  then each softmax's own rule;  dX = A1ᵀ dQ + Ã1ᵀ dQ̃.
///           The exact formula with f replaced would need Σ_j R_aj h_j κ_jᵀ, d times the work.
/// Cost      n m (11 d + 9) multiply-adds and 3 n m exponentials, 15 m³ a step of the iteration; state m (2 d + 4) and m².
/// Error     none where the softmax matrix has rank m and the steps suffice; else that of the m runs' means, which is no law in
///           m: it depends on how alike the tokens of a run are. Rows of L Z R sum to 1 but for steps left out.
/// Checked   a row sum of L Z R that is not positive is a failure, not a number; MinRowSumOverN is of these sums.
/// Order     of every sum fixed by the shape and m alone, so the bits do not depend on the number of threads.
/// Source    Xiong, Zeng, Chakraborty, Tan, Fung, Li and Singh, "Nyströmformer", AAAI 2021, sections 3.2 and 3.3, without its
///           convolution.
/// </remarks>
public sealed class NystromGradient : IGradientKernel
{
    private const int MostLandmarks = 4096, MostIterations = 64;

    public string Name => "nystrom";

    public string Summary => "An approximate gradient in time linear in n, by the Nyström method with segment means as landmarks.";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("landmarks", AxisKind.Integer, "m, how many landmarks, n at most: each is the mean of a run of n/m tokens.",
            Minimum: 1, Maximum: MostLandmarks, Required: true),
        new("iterations", AxisKind.Integer, "Steps of the pseudo-inverse; 6 as published, more come nearer to the inverse.",
            Default: 6L, Minimum: 1, Maximum: MostIterations),
    ];

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings)
    {
        (int m, int iterations) = Choice(settings, n, d);
        double flops = ((double)n * m * ((22 * d) + 21)) + (2 * PseudoInverse.MultiplyAdds(m, iterations)) + (6.0 * n * d * d);
        double bytes = Operands<float>.Bytes(n, d, bytesPerNumber)
            + KeyPass<float>.Bytes(n, m, d + 1, 1, threads, bytesPerNumber)
            + KeyPass<float>.Bytes(n, m, d, 2, threads, bytesPerNumber)
            + FeatureRows<float>.Bytes(n, d, m, ExponentialRows<float>.Scratch, threads, bytesPerNumber)
            + LandmarkRows<float>.KeptBytes(n, d, m, threads, bytesPerNumber)
            + PseudoInverse.Bytes(m, iterations) + (m * ((16.0 * d) + (6.0 * d * bytesPerNumber)));
        return new(flops, bytes, m);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        (int m, int iterations) = Choice(settings, problem.N, problem.D);
        context.Phase?.Invoke("project");
        double root = Math.Sqrt(problem.Divisor);

        // Every factor is a softmax over keys, so centring them changes nothing but the size of what is rounded.
        using Operands<T> operands = new(problem, root, root, centred: true, context.Cancellation);
        using Work<T> work = new(operands, m, context);
        context.Phase?.Invoke("landmarks");
        work.Forward(iterations);
        context.Phase?.Invoke("rows");
        using LandmarkRows<T> rows = work.Rows(output);
        rows.Run(rows.ChunkCount, context.Threads, context.Cancellation);
        rows.Reduce();
        context.Phase?.Invoke("reduce");
        double[] more = work.Backward(rows.Kept);
        work.AddTo(output.DQ);
        rows.Finish(more, "raise landmarks or iterations, or lower the bound");
        output.FittedRadius = double.NaN;
        output.PredictedExpError = double.NaN;
        Checks.ThrowIfNotFinite(output);
    }

    private static (int Landmarks, int Iterations) Choice(Settings settings, int n, int d)
    {
        int m = RivalSettings.Count(settings, "nystrom", "landmarks", MostLandmarks);
        int iterations = RivalSettings.Count(settings, "nystrom", "iterations", MostIterations, usual: 6);
        if (m > n)
        {
            throw new ArgumentException(
                $"landmarks = {m} at n = {n}: each is the mean of at least one token. Lower landmarks to {n}, or filter with "
                + "where: landmarks <= n.");
        }

        RivalSettings.CheckPanel("nystrom", "landmarks", m, d);
        return (m, iterations);
    }

    /// <summary>All that is of size m: landmarks, A, Z, B, W and their derivatives.</summary>
    private sealed class Work<T> : IDisposable
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        private readonly Operands<T> _operands;
        private readonly KernelContext _context;
        private readonly int _n, _d, _m, _columns, _size;
        private readonly T[] _queries, _keys, _exponents, _moments;
        private readonly double[] _meanQ, _meanKey, _b, _a, _logSums;
        private PseudoInverse? _inverse;
        private double[] _dQ = [];

        public Work(Operands<T> operands, int m, KernelContext context)
        {
            _operands = operands;
            _context = context;
            (_n, _d, _m) = (operands.N, operands.D, m);
            _columns = Panels.Padded<T>(m);
            _size = (m + 15) / 16 * 16;
            _queries = ScratchMemory.Rent<T>(_d * _columns);
            _keys = ScratchMemory.Rent<T>(_d * _columns);
            _exponents = ScratchMemory.Rent<T>(_columns);
            _moments = ScratchMemory.Rent<T>((_d + 2) * _columns);
            _meanQ = Means(operands.Q);
            _meanKey = Means(operands.Keys);
            _b = new double[m * _d];
            _logSums = new double[m];
            _a = new double[_size * _size];
        }

        public void Forward(int iterations)
        {
            RivalSettings.Transpose(_meanQ, _m, _d, _queries.AsSpan(), _columns);
            RivalSettings.Transpose(_meanKey, _m, _d, _keys.AsSpan(), _columns);
            using (ExponentialMoments<T> moments = new(_operands, _queries, _columns, gaussian: false, _context.Cancellation))
            {
                moments.Run(moments.ChunkCount, _context.Threads, _context.Cancellation);
                moments.Reduce();
                for (int a = 0; a < _m; a++)
                {
                    double sum = moments.Sum[(_d * _columns) + a];
                    _logSums[a] = moments.Sum[((_d + 1) * _columns) + a] + Math.Log(sum);
                    for (int l = 0; l < _d; l++)
                    {
                        _b[(a * _d) + l] = moments.Sum[(l * _columns) + a] / sum;
                    }
                }
            }

            for (int a = 0; a < _m; a++)
            {
                Span<double> row = _a.AsSpan(a * _size, _m);
                double largest = double.NegativeInfinity, sum = 0;
                for (int b = 0; b < _m; b++)
                {
                    for (int k = 0; k < _d; k++)
                    {
                        row[b] += _meanQ[(a * _d) + k] * _meanKey[(b * _d) + k];
                    }

                    largest = Math.Max(largest, row[b]);
                }

                foreach (ref double value in row)
                {
                    value = Math.Exp(value - largest);
                    sum += value;
                }

                foreach (ref double value in row)
                {
                    value /= sum;
                }
            }

            _inverse = new PseudoInverse(_a, _m, _size, iterations, _context.Threads, _context.Cancellation);
            double[] w = Times(_inverse.Z, _b);
            new Span<T>(_moments, 0, (_d + 2) * _columns).Clear();
            for (int a = 0; a < _columns; a++)
            {
                _exponents[a] = a < _m ? T.Zero : T.NegativeInfinity;
            }

            for (int a = 0; a < _m; a++)
            {
                double rowSum = 0;
                for (int b = 0; b < _m; b++)
                {
                    rowSum += _inverse.Z[(a * _size) + b];
                }

                for (int l = 0; l < _d; l++)
                {
                    _moments[(l * _columns) + a] = T.CreateTruncating(w[(a * _d) + l]);
                }

                _moments[(_d * _columns) + a] = T.One;
                _moments[((_d + 1) * _columns) + a] = T.CreateTruncating(rowSum);
            }
        }

        public LandmarkRows<T> Rows(GradientOutput<T> output) =>
            new(_operands, _keys, _exponents, _moments, _columns, output, _context.Cancellation);

        /// <summary>Ã1ᵀ dQ̃, (d, d), from W̄, [d][columns].</summary>
        public double[] Backward(double[] kept)
        {
            double[] wBar = new double[_m * _d];
            for (int a = 0; a < _m; a++)
            {
                for (int l = 0; l < _d; l++)
                {
                    wBar[(a * _d) + l] = kept[(l * _columns) + a];
                }
            }

            double[] bBar = Times(_inverse!.Transposed(_inverse.Z), wBar), zBar = new double[_size * _size];
            for (int a = 0; a < _m; a++)
            {
                _context.Cancellation.ThrowIfCancellationRequested();
                for (int b = 0; b < _m; b++)
                {
                    for (int l = 0; l < _d; l++)
                    {
                        zBar[(a * _size) + b] += wBar[(a * _d) + l] * _b[(b * _d) + l];
                    }
                }
            }

            double[] dQ = OfKeys(bBar), aBar = _inverse.Backward(zBar);
            for (int a = 0; a < _m; a++)
            {
                double mean = 0;
                for (int b = 0; b < _m; b++)
                {
                    mean += _a[(a * _size) + b] * aBar[(a * _size) + b];
                }

                for (int b = 0; b < _m; b++)
                {
                    double dS = _a[(a * _size) + b] * (aBar[(a * _size) + b] - mean);
                    for (int k = 0; k < _d; k++)
                    {
                        dQ[(a * _d) + k] += dS * _meanKey[(b * _d) + k];
                    }
                }
            }

            _dQ = dQ;
            double[] meanA1 = Means(_operands.Problem.A1), more = new double[_d * _d];
            for (int a = 0; a < _m; a++)
            {
                for (int i = 0; i < _d * _d; i++)
                {
                    more[i] += meanA1[(a * _d) + (i / _d)] * dQ[(a * _d) + (i % _d)];
                }
            }

            return more;
        }

        /// <summary>A landmark's dQ̃ is shared out among the rows it is the mean of.</summary>
        public void AddTo(T[]? dQ)
        {
            for (int a = 0; dQ is not null && a < _m; a++)
            {
                int first = (int)((long)a * _n / _m), end = (int)((a + 1L) * _n / _m);
                for (int at = first * _d; at < end * _d; at++)
                {
                    double own = _dQ[(a * _d) + (at % _d)] / (end - first) / _operands.QueryDivisor;
                    dQ[at] = T.CreateTruncating(double.CreateTruncating(dQ[at]) + own);
                }
            }
        }

        public void Dispose()
        {
            _inverse?.Dispose();
            ScratchMemory.Return(_queries);
            ScratchMemory.Return(_keys);
            ScratchMemory.Return(_exponents);
            ScratchMemory.Return(_moments);
        }

        // R's part: dQ̃_a = Σ_j R_aj (B̄_a·h_j − B̄_a·B_a) κ_j, R_aj by its exponent again rather than from memory.
        private double[] OfKeys(double[] bBar)
        {
            for (int a = 0; a < _columns; a++)
            {
                double own = 0;
                for (int l = 0; l < _d; l++)
                {
                    double value = a < _m ? bBar[(a * _d) + l] : 0;
                    own += a < _m ? value * _b[(a * _d) + l] : 0;
                    _moments[(l * _columns) + a] = T.CreateTruncating(value);
                }

                _moments[(_d * _columns) + a] = T.CreateTruncating(-own);
                _exponents[a] = a < _m ? T.CreateTruncating(-_logSums[a]) : T.NegativeInfinity;
            }

            using LandmarkKeys<T> pass = new(_operands, _queries, _exponents, _moments, _columns, _context.Cancellation);
            pass.Run(pass.ChunkCount, _context.Threads, _context.Cancellation);
            pass.Reduce();
            double[] dQ = new double[_m * _d];
            for (int a = 0; a < _m; a++)
            {
                for (int k = 0; k < _d; k++)
                {
                    dQ[(a * _d) + k] = pass.Sum[(k * _columns) + a];
                }
            }

            return dQ;
        }

        private double[] Times(double[] square, double[] tall)
        {
            double[] product = new double[_m * _d];
            for (int a = 0; a < _m; a++)
            {
                _context.Cancellation.ThrowIfCancellationRequested();
                for (int b = 0; b < _m; b++)
                {
                    double factor = square[(a * _size) + b];
                    for (int l = 0; l < _d; l++)
                    {
                        product[(a * _d) + l] += factor * tall[(b * _d) + l];
                    }
                }
            }

            return product;
        }

        // Run a is rows a n/m to (a + 1) n/m.
        private double[] Means(T[] rows)
        {
            double[] means = new double[_m * _d];
            for (int a = 0; a < _m; a++)
            {
                int first = (int)((long)a * _n / _m), end = (int)((a + 1L) * _n / _m);
                for (int i = first; i < end; i++)
                {
                    for (int k = 0; k < _d; k++)
                    {
                        means[(a * _d) + k] += double.CreateTruncating(rows[(i * _d) + k]);
                    }
                }

                for (int k = 0; k < _d; k++)
                {
                    means[(a * _d) + k] /= end - first;
                }
            }

            return means;
        }
    }
}

/// <summary>Rows of L, with W̄ = Lᵀ c kept for every landmark.</summary>
internal sealed unsafe class LandmarkRows<T> : ExponentialRows<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly double[][] _kept;
    private readonly T[][] _block;

    public LandmarkRows(
        Operands<T> operands, T[] keys, T[] exponents, T[] moments, int columns, GradientOutput<T> output,
        CancellationToken cancellation)
        : base(operands, keys, exponents, moments, columns, operands.D + 2, MostChunks(operands.D, columns), output, cancellation)
    {
        _kept = new double[ChunkCount][];
        _block = new T[ChunkCount][];
    }

    /// <summary>W̄, [d][columns], after <see cref="Reduce"/>.</summary>
    public double[] Kept => _kept[0];

    public static double KeptBytes(int n, int d, int columns, int threads, int bytesPerNumber) =>
        (double)d * columns * ((8.0 * CountChunks(n, MostChunks(d, columns))) + (Math.Max(1, threads) * bytesPerNumber));

    public void Reduce()
    {
        // Pairwise and in the order of the chunks, so that the bits do not depend on the threads.
        for (int stride = 1; stride < ChunkCount; stride *= 2)
        {
            for (int i = 0; i + stride < ChunkCount; i += 2 * stride)
            {
                for (int at = 0; at < D * Columns; at++)
                {
                    _kept[i][at] += _kept[i + stride][at];
                }
            }
        }
    }

    public override void Dispose()
    {
        foreach (double[]? part in _kept)
        {
            if (part is not null)
            {
                ScratchMemory.Return(part);
            }
        }

        base.Dispose();
    }

    // At most 64 MiB of W̄.
    private static int MostChunks(int d, int columns) => (int)Math.Clamp((64 << 20) / (8.0 * d * columns), 1, 64);

    // What has to be positive is the row's sum of L Z R.
    protected override double RowSum(double* sums) => sums[D + 1] / sums[D];

    protected override void Chunk(int chunk, bool begins)
    {
        if (begins)
        {
            _kept[chunk] = ScratchMemory.Rent<double>(D * Columns);
            _kept[chunk].AsSpan().Clear();
            _block[chunk] = ScratchMemory.Rent<T>(D * Columns);
            return;
        }

        ScratchMemory.Return(_block[chunk]);
        _block[chunk] = [];
    }

    protected override void Keep(int chunk, T* coefficients, T* phi)
    {
        // The sum of eight rows is of type T, the sum of those is double.
        double[] kept = _kept[chunk];
        T[] block = _block[chunk];
        block.AsSpan(0, D * Columns).Clear();
        fixed (T* panel = block)
        fixed (double* total = kept)
        {
            Panels.Accumulate(coefficients, D + 1, D, phi, Columns, Columns, panel, Columns);
            Widen(panel, total, D * Columns);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Widen(T* from, double* into, int count)
    {
        for (int i = 0; i < count; i += Vector<T>.Count)
        {
            if (typeof(T) == typeof(double))
            {
                Vector.Store(Vector.Load(into + i) + Vector.Load((double*)from + i), into + i);
                continue;
            }

            Vector<float> narrow = Vector.Load((float*)from + i);
            double* next = into + i + Vector<double>.Count;
            Vector.Store(Vector.Load(into + i) + Vector.WidenLower(narrow), into + i);
            Vector.Store(Vector.Load(next) + Vector.WidenUpper(narrow), next);
        }
    }
}

/// <summary>Σ_j R_aj (B̄_a·h_j − B̄_a·B_a) κ_j for every landmark a, [d][columns].</summary>
internal sealed unsafe class LandmarkKeys<T>(
    Operands<T> operands, T[] queries, T[] exponents, T[] moments, int columns, CancellationToken cancellation)
    : KeyPass<T>(operands, columns, operands.D, 2, cancellation)
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly T[] _queries = queries;

    // −log Σ_j e^(q̃_a·κ_j), −∞ in the padding.
    private readonly T[] _exponents = exponents;

    // [d + 1][columns]: B̄, then −B̄_a·B_a.
    private readonly T[] _moments = moments;

    protected override void Add(T* keys, T* coefficients, T* rows, T* panel)
    {
        int d = Operands.D;
        long all = (long)Panels.Rows * Columns;
        T* slopes = rows + all;
        fixed (T* queries = _queries, exponents = _exponents, moments = _moments)
        {
            Panels.Expand(keys, d, d, queries, Columns, Columns, rows, Columns);
            Panels.Expand(coefficients, d + 1, d + 1, moments, Columns, Columns, slopes, Columns);
            Weigh(rows, slopes, exponents);
        }

        // A key that does not count has coefficients 0, so slopes 0: its weights below are 0 as well.
        Panels.Accumulate(keys, d, Width, slopes, Columns, Columns, panel, Columns);
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void Weigh(T* rows, T* slopes, T* exponents)
    {
        for (int r = 0; r < Panels.Rows; r++, rows += Columns, slopes += Columns)
        {
            for (int a = 0; a < Columns; a += Vector<T>.Count)
            {
                Vector<T> weight = Lanes.Exp(Vector.Load(rows + a) + Vector.Load(exponents + a));
                Vector.Store(weight * Vector.Load(slopes + a), slopes + a);
            }
        }
    }
}
