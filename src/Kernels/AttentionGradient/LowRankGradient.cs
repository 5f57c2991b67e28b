using System.Buffers;
using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>An approximate gradient in time linear in n: exp is a polynomial of degree g, and sums over keys are moments.</summary>
/// <remarks>
/// Keys      M_β = Σ_j κ_j^β (h_j, 1) for all |β| ≤ G, with κ = (a2 − mean) / d.
/// Queries   (F D, D) = Σ_β a_|β| W_β q^β M_β;  c = F − E;  r = c·F;
///           dQ = ∇_q Σ_β b̂_|β| W_β q^β (c·M_β,h − r M_β,1) / D;  dX = A1ᵀ dQ.
/// Form      paper (the default): b̂_m = a_(m−1) / m, G = g + 1: the exact formula with exp replaced by P.
///           reverse: b̂ = a, G = g: the true gradient of the loss with exp replaced by P.
/// Basis     minimax (the default, as README.md argues: a guarantee for every input) or taylor (often better on random
///           inputs, whose logits crowd around 0).
/// Radius    R: the setting, or the least of two bounds that the data give in O(n d): Σ_c max|q_c| max|κ_c| and
///           max‖q‖ max‖κ‖; then rounded up, see <see cref="ExpPolynomial.RoundUp"/>.
/// Cost      n (d + 1) (2 K + k) multiply-adds and 4 n K more, K = C(d + G, G), k = C(d + g, g); state K (d + 1).
/// Error     each exponential is off by at most PredictedExpError for |logits| ≤ R; a row sum that is not positive is a
///           failure, not a number.
/// Order     of every sum fixed by n, d and the settings, so the bits do not depend on the number of threads.
/// Source    Alman and Song 2024, section 4, with the moments of README.md in place of its rank-k d factors.
/// </remarks>
public sealed class LowRankGradient : IGradientKernel
{
    public string Name => "low-rank";

    public string Summary => "An approximate gradient in time linear in n, by moments of polynomial features of a degree.";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("degree", AxisKind.Integer, "Degree g of the polynomial that stands for exp; the rank is C(d + g, g).",
            Minimum: 1, Maximum: ExpPolynomial.MaxDegree, Required: true),
        new("basis", AxisKind.Choice, "Where the coefficients come from: Taylor at 0, or relative minimax on [−R, R].",
            Default: "minimax", Choices: ["taylor", "minimax"]),
        new("form", AxisKind.Choice,
            "paper: the exact formula with exp replaced; reverse: the gradient of the approximated loss.",
            Default: "paper", Choices: ["paper", "reverse"]),
        new("centred", AxisKind.Flag, "Whether the mean key is subtracted first, which leaves the exact gradient unchanged.",
            Default: true),
        new("radius", AxisKind.Real, "R, the largest |logit| to fit for; left out, a safe bound is computed from the data.",
            Minimum: ExpPolynomial.MinRadius, Maximum: ExpPolynomial.MaxRadius, AppliesTo: ("basis", ["minimax"])),
    ];

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings)
    {
        Choice choice = Choice.Of(settings, d);
        double all = choice.Features, value = choice.ValueFeatures, wide = Projection.Padded(d);
        double state = all * (d + 1) * bytesPerNumber;
        double flops = n * ((2.0 * (d + 1) * ((2 * all) + value)) + (6.0 * d * d) + (6 * all));
        double bytes = (state * (KeyChunks(n, state) + 1)) + (8 * 3.0 * n * wide) + (3.0 * n * d * bytesPerNumber)
            + (Math.Max(1, threads) * 12 * all * bytesPerNumber) + (16 * all) + (8.0 * RowChunks(n) * ((d * d) + 4));
        return new(flops, bytes, choice.ValueFeatures);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Choice choice = Choice.Of(settings, problem.D);
        context.Phase?.Invoke("project");
        using Operands<T> operands = new(problem, choice, context.Cancellation);
        ExpPolynomial polynomial = operands.Polynomial;
        output.FittedRadius = polynomial.Radius;
        output.PredictedExpError = polynomial.RelativeError;
        output.MaxLogit = double.NaN;
        output.RmsLogit = double.NaN;

        context.Phase?.Invoke("moments");
        using Moments<T> moments = new(operands, context.Cancellation);
        moments.Run(moments.ChunkCount, context.Threads, context.Cancellation);
        moments.ReduceAndWeigh();

        context.Phase?.Invoke("rows");
        using Queries<T> queries = new(problem, operands, moments, output, context.Cancellation);
        queries.Run(queries.ChunkCount, context.Threads, context.Cancellation);

        context.Phase?.Invoke("reduce");
        queries.Finish();
        Checks.ThrowIfNotFinite(output);
    }

    // At most 16 parts of the keys, each with moments of its own, and no more than 64 MiB of them: by n and the state's
    // size alone.
    private static int KeyChunks(int n, double stateBytes) =>
        (int)Math.Clamp(Math.Min(Math.Ceiling(n / 1024.0), Math.Floor((64 << 20) / stateBytes)), 1, 16);

    private static int RowsPerChunk(int n) => Math.Max(64, (((n + 63) / 64) + 3) / 4 * 4);

    private static int RowChunks(int n) => (n + RowsPerChunk(n) - 1) / RowsPerChunk(n);

    private static int PaddedFeatures(int features, int lanes) => (features + lanes - 1) / lanes * lanes;

    /// <summary>The settings, understood and checked.</summary>
    private readonly record struct Choice(
        int Degree, bool Minimax, bool Reverse, bool Centred, double? Radius, int Features, int ValueFeatures)
    {
        public int Top => Reverse ? Degree : Degree + 1;

        public static Choice Of(Settings settings, int d)
        {
            if (!settings.Has("degree"))
            {
                throw new ArgumentException("low-rank was given no degree. Name one, such as degree: 4.");
            }

            int degree = settings.Integer("degree", 0);
            if (degree is < 1 or > ExpPolynomial.MaxDegree)
            {
                throw new ArgumentException(
                    $"degree = {degree}: low-rank takes a whole number from 1 to {ExpPolynomial.MaxDegree}.");
            }

            bool minimax = Word(settings, "basis", "minimax", "taylor") == "minimax";
            bool reverse = Word(settings, "form", "paper", "reverse") == "reverse";
            double? radius = settings.Has("radius") && minimax ? settings.Real("radius", 0) : null;
            if (radius is double given && !(given > 0 && given <= ExpPolynomial.MaxRadius))
            {
                throw new ArgumentException(
                    $"radius = {Text(given)}: a number above 0 and up to {ExpPolynomial.MaxRadius} is needed. Leave it out to "
                    + "have it computed from the data.");
            }

            int top = reverse ? degree : degree + 1;
            long features = Monomials.CountOf(d, top);
            if (!Fits(features, d))
            {
                int feasible = degree;
                while (feasible > 0 && !Fits(Monomials.CountOf(d, feasible + (top - degree)), d))
                {
                    feasible--;
                }

                string count = features == long.MaxValue ? "more than 2^63" : features.ToString("N0", CultureInfo.InvariantCulture);
                throw new ArgumentException(
                    $"degree = {degree} at d = {d} needs C({d + top}, {top}) = {count} monomials, each with d + 1 moments; one "
                    + $"array holds 2^31 numbers. Lower the degree to {feasible} at most, or d.");
            }

            return new(degree, minimax, reverse, settings.Flag("centred", true), radius, (int)features,
                (int)Monomials.CountOf(d, degree));
        }

        private static bool Fits(long features, int d) => features <= (Array.MaxLength / (d + 1)) - 64;

        private static string Word(Settings settings, string name, string usual, string other)
        {
            string word = settings.Word(name, usual);
            return word == usual || word == other
                ? word
                : throw new ArgumentException($"{name} = {word}: low-rank knows {usual} and {other}.");
        }
    }

    private static string Text(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    /// <summary>Q, h, the centred keys over d, and the polynomial that their sizes call for.</summary>
    private sealed class Operands<T> : IDisposable
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        private readonly double[] _wideQ, _wideH, _low;

        public Operands(AttentionProblem<T> problem, Choice choice, CancellationToken cancellation)
        {
            N = problem.N;
            D = problem.D;
            Choice = choice;
            int wide = Projection.Padded(D);
            _wideQ = ArrayPool<double>.Shared.Rent(checked(N * wide));
            _wideH = ArrayPool<double>.Shared.Rent(N * wide);
            _low = ArrayPool<double>.Shared.Rent(N * wide);
            Q = ArrayPool<T>.Shared.Rent(N * D);
            H = ArrayPool<T>.Shared.Rent(N * D);
            Keys = ArrayPool<T>.Shared.Rent(N * D);
            const int Step = 1024;
            for (int first = 0; first < N; first += Step)
            {
                cancellation.ThrowIfCancellationRequested();
                int rows = Math.Min(Step, N - first);
                Projection.Multiply(problem.A1, problem.X, first, rows, D, _wideQ, _low);
                Projection.Multiply(problem.A3, problem.Y, first, rows, D, _wideH, _low);
            }

            Span<double> mean = stackalloc double[D];
            mean.Clear();
            if (choice.Centred)
            {
                for (int j = 0; j < N; j++)
                {
                    for (int k = 0; k < D; k++)
                    {
                        mean[k] += double.CreateTruncating(problem.A2[(j * D) + k]);
                    }
                }

                for (int k = 0; k < D; k++)
                {
                    mean[k] /= N;
                }
            }

            Span<double> mostQ = stackalloc double[D];
            Span<double> mostKey = stackalloc double[D];
            mostQ.Clear();
            mostKey.Clear();
            double longestQ = 0, longestKey = 0;
            for (int i = 0; i < N; i++)
            {
                double squareQ = 0, squareKey = 0;
                for (int k = 0; k < D; k++)
                {
                    double q = _wideQ[(i * wide) + k];
                    double key = (double.CreateTruncating(problem.A2[(i * D) + k]) - mean[k]) / D;
                    Q[(i * D) + k] = T.CreateTruncating(q);
                    H[(i * D) + k] = T.CreateTruncating(_wideH[(i * wide) + k]);
                    Keys[(i * D) + k] = T.CreateTruncating(key);
                    mostQ[k] = Math.Max(mostQ[k], Math.Abs(q));
                    mostKey[k] = Math.Max(mostKey[k], Math.Abs(key));
                    squareQ += q * q;
                    squareKey += key * key;
                }

                longestQ = Math.Max(longestQ, squareQ);
                longestKey = Math.Max(longestKey, squareKey);
            }

            double byColumns = 0;
            for (int k = 0; k < D; k++)
            {
                byColumns += mostQ[k] * mostKey[k];
            }

            Polynomial = Fit(choice, Math.Min(byColumns, Math.Sqrt(longestQ) * Math.Sqrt(longestKey)));
            Table = Monomials.Of(D, choice.Top);
        }

        public int N { get; }

        public int D { get; }

        public Choice Choice { get; }

        public T[] Q { get; }

        public T[] H { get; }

        public T[] Keys { get; }

        public ExpPolynomial Polynomial { get; }

        public Monomials Table { get; }

        /// <summary>Makes the features of one vector up to a degree, in the order of the table.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public static unsafe void Features(Monomials table, int degree, int d, T* x, T* features)
        {
            features[0] = T.One;
            fixed (int* starts = table.Starts, firsts = table.FirstOfDegree)
            {
                for (int m = 1; m <= degree; m++)
                {
                    for (int i = 0; i < d; i++)
                    {
                        int parent = m == 1 ? 0 : starts[((m - 1) * d) + i];
                        int length = firsts[m] - parent;
                        T factor = x[i];
                        T* from = features + parent, to = features + starts[(m * d) + i];
                        int t = 0;
                        if (length >= Vector<T>.Count)
                        {
                            Vector<T> factors = Vector.Create(factor);
                            for (; t <= length - Vector<T>.Count; t += Vector<T>.Count)
                            {
                                Vector.Store(factors * Vector.Load(from + t), to + t);
                            }
                        }

                        for (; t < length; t++)
                        {
                            to[t] = factor * from[t];
                        }
                    }
                }
            }
        }

        public void Dispose()
        {
            ArrayPool<double>.Shared.Return(_wideQ);
            ArrayPool<double>.Shared.Return(_wideH);
            ArrayPool<double>.Shared.Return(_low);
            ArrayPool<T>.Shared.Return(Q);
            ArrayPool<T>.Shared.Return(H);
            ArrayPool<T>.Shared.Return(Keys);
        }

        private static ExpPolynomial Fit(Choice choice, double bound)
        {
            if (!double.IsFinite(bound))
            {
                throw new KernelFailure("The bound on the logits is not finite: an input is not, or entries are too large.");
            }

            if (!choice.Minimax)
            {
                return ExpPolynomial.Taylor(choice.Degree, bound);
            }

            double radius = choice.Radius ?? bound;
            if (radius > ExpPolynomial.MaxRadius)
            {
                throw new KernelFailure(
                    $"|logits| may reach {radius.ToString("G4", CultureInfo.InvariantCulture)} (a bound from the data), where "
                    + $"no polynomial of degree {choice.Degree} is near exp; fits go up to {ExpPolynomial.MaxRadius}. Lower the "
                    + "bound, or set radius to what the logits do reach.");
            }

            return ExpPolynomial.Minimax(choice.Degree, radius);
        }
    }

    /// <summary>Pass 1: the moments of the keys, [d + 1][features], the last row being those of 1.</summary>
    private sealed class Moments<T> : Chunks, IDisposable
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        // Eight keys' features at a time: every moment is loaded and stored once for eight multiply-adds.
        private const int Tile = 8;

        private readonly Operands<T> _operands;
        private readonly CancellationToken _cancellation;
        private readonly int _d, _keysPerChunk, _size;

        public Moments(Operands<T> operands, CancellationToken cancellation)
        {
            _operands = operands;
            _cancellation = cancellation;
            _d = operands.D;
            Stride = PaddedFeatures(operands.Table.Count, Vector<T>.Count);
            ValueFeatures = operands.Choice.ValueFeatures;
            _size = checked(Stride * (_d + 1));
            int chunks = KeyChunks(operands.N, (double)operands.Table.Count * (_d + 1) * Unsafe.SizeOf<T>());
            _keysPerChunk = (((operands.N + chunks - 1) / chunks) + Tile - 1) / Tile * Tile;
            ChunkCount = (operands.N + _keysPerChunk - 1) / _keysPerChunk;
            Parts = new T[ChunkCount][];
            for (int i = 0; i < ChunkCount; i++)
            {
                Parts[i] = ArrayPool<T>.Shared.Rent(_size);
            }

            Value = ArrayPool<T>.Shared.Rent(_size);
        }

        public int ChunkCount { get; }

        public int Stride { get; }

        public int ValueFeatures { get; }

        /// <summary>a_|β| W_β M_β; after <see cref="ReduceAndWeigh"/>.</summary>
        public T[] Value { get; }

        /// <summary>b̂_|β| W_β M_β; after <see cref="ReduceAndWeigh"/>.</summary>
        public T[] Slope => Parts[0];

        private T[][] Parts { get; }

        public void ReduceAndWeigh()
        {
            for (int stride = 1; stride < ChunkCount; stride *= 2)
            {
                for (int i = 0; i + stride < ChunkCount; i += 2 * stride)
                {
                    _cancellation.ThrowIfCancellationRequested();
                    Span<T> into = Parts[i].AsSpan(0, _size), from = Parts[i + stride].AsSpan(0, _size);
                    for (int k = 0; k < into.Length; k++)
                    {
                        into[k] += from[k];
                    }
                }
            }

            Monomials table = _operands.Table;
            double[] a = _operands.Polynomial.A;
            double[] hat = _operands.Choice.Reverse ? a : _operands.Polynomial.PaperHat();
            for (int m = 0; m <= table.Degree; m++)
            {
                double value = m < a.Length ? a[m] : 0;
                for (int beta = table.FirstOfDegree[m]; beta < table.FirstOfDegree[m + 1]; beta++)
                {
                    T ofValue = T.CreateTruncating(value * table.Weights[beta]);
                    T ofSlope = T.CreateTruncating(hat[m] * table.Weights[beta]);
                    for (int l = 0; l <= _d; l++)
                    {
                        T moment = Slope[(l * Stride) + beta];
                        Value[(l * Stride) + beta] = ofValue * moment;
                        Slope[(l * Stride) + beta] = ofSlope * moment;
                    }
                }
            }

            // Padding must not be NaN left behind by an earlier tenant of the array.
            for (int l = 0; l <= _d; l++)
            {
                Value.AsSpan((l * Stride) + table.Count, Stride - table.Count).Clear();
                Slope.AsSpan((l * Stride) + table.Count, Stride - table.Count).Clear();
            }
        }

        public void Dispose()
        {
            foreach (T[] part in Parts)
            {
                ArrayPool<T>.Shared.Return(part);
            }

            ArrayPool<T>.Shared.Return(Value);
        }

        protected override unsafe void Take()
        {
            T[] features = ArrayPool<T>.Shared.Rent(checked(Tile * Stride));
            try
            {
                fixed (T* phi = features, keys = _operands.Keys, h = _operands.H)
                {
                    new Span<T>(phi, Tile * Stride).Clear();
                    for (int chunk = Next(); chunk >= 0; chunk = Next())
                    {
                        fixed (T* moments = Parts[chunk])
                        {
                            new Span<T>(moments, _size).Clear();
                            int end = Math.Min(_operands.N, (chunk + 1) * _keysPerChunk);
                            for (int j = chunk * _keysPerChunk; j < end; j += Tile)
                            {
                                _cancellation.ThrowIfCancellationRequested();
                                Accumulate(keys, h, j, Math.Min(Tile, end - j), phi, moments);
                            }
                        }
                    }
                }
            }
            finally
            {
                ArrayPool<T>.Shared.Return(features);
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private unsafe void Accumulate(T* keys, T* h, int first, int count, T* phi, T* moments)
        {
            for (int r = 0; r < count; r++)
            {
                Operands<T>.Features(
                    _operands.Table, _operands.Table.Degree, _d, keys + ((long)(first + r) * _d), phi + ((long)r * Stride));
            }

            T* p1 = phi + Stride, p2 = p1 + Stride, p3 = p2 + Stride;
            T* p4 = p3 + Stride, p5 = p4 + Stride, p6 = p5 + Stride, p7 = p6 + Stride;
            for (int l = 0; l <= _d; l++)
            {
                // Keys that a last tile lacks have the factor 0; their features are old ones, finite or refused later.
                T* at = h + ((long)first * _d) + l;
                Vector<T> y0 = Factor(at, 0, l, count), y1 = Factor(at, 1, l, count);
                Vector<T> y2 = Factor(at, 2, l, count), y3 = Factor(at, 3, l, count);
                Vector<T> y4 = Factor(at, 4, l, count), y5 = Factor(at, 5, l, count);
                Vector<T> y6 = Factor(at, 6, l, count), y7 = Factor(at, 7, l, count);
                T* into = moments + ((long)l * Stride);
                for (int b = 0; b < Stride; b += Vector<T>.Count)
                {
                    Vector<T> even = y0 * Vector.Load(phi + b), odd = y1 * Vector.Load(p1 + b);
                    even = Lanes.MulAdd(y2, Vector.Load(p2 + b), even);
                    odd = Lanes.MulAdd(y3, Vector.Load(p3 + b), odd);
                    even = Lanes.MulAdd(y4, Vector.Load(p4 + b), even);
                    odd = Lanes.MulAdd(y5, Vector.Load(p5 + b), odd);
                    even = Lanes.MulAdd(y6, Vector.Load(p6 + b), even);
                    odd = Lanes.MulAdd(y7, Vector.Load(p7 + b), odd);
                    Vector.Store(Vector.Load(into + b) + (even + odd), into + b);
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private unsafe Vector<T> Factor(T* at, int r, int l, int count) =>
            Vector.Create(r >= count ? T.Zero : l == _d ? T.One : at[(long)r * _d]);
    }

    /// <summary>Pass 2: forward, residual and dQ of every query from the moments alone.</summary>
    private sealed class Queries<T> : Chunks, IDisposable
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        private const int Tile = 4;

        // What a chunk of rows writes after its d × d share: loss, least row sum, its row, how many were not positive.
        private const int Extras = 4;

        private readonly AttentionProblem<T> _problem;
        private readonly Operands<T> _operands;
        private readonly Moments<T> _moments;
        private readonly GradientOutput<T> _output;
        private readonly CancellationToken _cancellation;
        private readonly int _n, _d, _share;
        private readonly double[] _shares;

        public Queries(
            AttentionProblem<T> problem, Operands<T> operands, Moments<T> moments, GradientOutput<T> output,
            CancellationToken cancellation)
        {
            _problem = problem;
            _operands = operands;
            _moments = moments;
            _output = output;
            _cancellation = cancellation;
            _n = problem.N;
            _d = problem.D;
            _share = (_d * _d) + Extras;
            ChunkCount = RowChunks(_n);
            _shares = ArrayPool<double>.Shared.Rent(ChunkCount * _share);
        }

        public int ChunkCount { get; }

        /// <exception cref="KernelFailure">A row sum was not positive.</exception>
        public void Finish()
        {
            double least = double.PositiveInfinity, row = 0, failures = 0;
            for (int chunk = 0; chunk < ChunkCount; chunk++)
            {
                ReadOnlySpan<double> extras = _shares.AsSpan((chunk * _share) + (_d * _d), Extras);
                if (double.IsNaN(extras[1]) ? !double.IsNaN(least) : extras[1] < least)
                {
                    (least, row) = (extras[1], extras[2]);
                }

                failures += extras[3];
            }

            ReduceTree(_shares.AsSpan(0, ChunkCount * _share), ChunkCount, _share);
            for (int i = 0; i < _d * _d; i++)
            {
                _output.DX[i] = T.CreateTruncating(_shares[i]);
            }

            _output.Loss = _shares[_d * _d] / 2;
            _output.MinRowSumOverN = least / _n;
            _output.NonPositiveRowSums = (long)failures;
            if (failures > 0)
            {
                string advice = _operands.Choice.Minimax
                    ? "raise the degree, lower the bound, or leave radius out"
                    : "raise the degree, use basis minimax, or lower the bound";
                string sum = least.ToString("G3", CultureInfo.InvariantCulture);
                throw new KernelFailure(
                    $"{failures} of {_n} row sums {(failures == 1 ? "is" : "are")} not positive (least {sum} at row {row}); "
                    + $"{advice}.");
            }
        }

        public void Dispose() => ArrayPool<double>.Shared.Return(_shares);

        protected override unsafe void Take()
        {
            int stride = _moments.Stride;
            T[] features = ArrayPool<T>.Shared.Rent(checked(Tile * stride));
            T[] adjoints = ArrayPool<T>.Shared.Rent(Tile * stride);
            T[] rows = ArrayPool<T>.Shared.Rent(Tile * ((2 * _d) + 2));
            try
            {
                fixed (T* phi = features, z = adjoints, row = rows, value = _moments.Value, slope = _moments.Slope)
                {
                    new Span<T>(phi, Tile * stride).Clear();
                    for (int chunk = Next(); chunk >= 0; chunk = Next())
                    {
                        Span<double> share = _shares.AsSpan(chunk * _share, _share);
                        share.Clear();
                        share[(_d * _d) + 1] = double.PositiveInfinity;
                        int end = Math.Min(_n, (chunk + 1) * RowsPerChunk(_n));
                        for (int i = chunk * RowsPerChunk(_n); i < end; i += Tile)
                        {
                            _cancellation.ThrowIfCancellationRequested();
                            Block(i, Math.Min(Tile, end - i), phi, z, row, value, slope, share);
                        }
                    }
                }
            }
            finally
            {
                ArrayPool<T>.Shared.Return(features);
                ArrayPool<T>.Shared.Return(adjoints);
                ArrayPool<T>.Shared.Return(rows);
            }
        }

        private unsafe void Block(
            int first, int count, T* phi, T* z, T* row, T* value, T* slope, Span<double> share)
        {
            int stride = _moments.Stride, columns = _d + 1;
            T* factors = row, gradient = row + (Tile * columns);
            new Span<T>(row, Tile * ((2 * _d) + 2)).Clear();
            fixed (T* q = _operands.Q)
            {
                for (int r = 0; r < count; r++)
                {
                    Operands<T>.Features(
                        _operands.Table, _operands.Choice.Degree, _d, q + ((long)(first + r) * _d), phi + ((long)r * stride));
                }

                Values(phi, value, factors);
                Span<double> rowSums = stackalloc double[Tile];
                for (int r = 0; r < count; r++)
                {
                    rowSums[r] = Residual(first + r, factors + (r * columns), share);
                }

                Adjoints(factors, slope, z);
                for (int r = 0; r < count; r++)
                {
                    T* dQ = gradient + (r * columns);
                    Sweep(q + ((long)(first + r) * _d), phi + ((long)r * stride), z + ((long)r * stride), dQ);
                    if (!(rowSums[r] > 0))
                    {
                        continue;
                    }

                    for (int i = 0; i < _d; i++)
                    {
                        double a1 = double.CreateTruncating(_problem.A1[((first + r) * _d) + i]) / rowSums[r];
                        for (int k = 0; k < _d; k++)
                        {
                            share[(i * _d) + k] += a1 * double.CreateTruncating(dQ[k]);
                        }
                    }
                }
            }
        }

        /// <summary>sums[r][l] = Σ_β φ[r][β] value[l][β] for four queries.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private unsafe void Values(T* phi, T* value, T* sums)
        {
            int stride = _moments.Stride, columns = _d + 1;

            // Beyond the value's own degree its weights are 0, so the last vector may run over.
            int end = PaddedFeatures(_moments.ValueFeatures, Vector<T>.Count);
            T* p1 = phi + stride, p2 = p1 + stride, p3 = p2 + stride;
            for (int l = 0; l < columns; l++)
            {
                T* m = value + ((long)l * stride);
                Vector<T> s0 = Vector<T>.Zero, s1 = s0, s2 = s0, s3 = s0;
                for (int b = 0; b < end; b += Vector<T>.Count)
                {
                    Vector<T> moment = Vector.Load(m + b);
                    s0 = Lanes.MulAdd(Vector.Load(phi + b), moment, s0);
                    s1 = Lanes.MulAdd(Vector.Load(p1 + b), moment, s1);
                    s2 = Lanes.MulAdd(Vector.Load(p2 + b), moment, s2);
                    s3 = Lanes.MulAdd(Vector.Load(p3 + b), moment, s3);
                }

                sums[l] = Vector.Sum(s0);
                sums[columns + l] = Vector.Sum(s1);
                sums[(2 * columns) + l] = Vector.Sum(s2);
                sums[(3 * columns) + l] = Vector.Sum(s3);
            }
        }

        /// <summary>Turns (F D, D) into (c, −r) in place. Returns D.</summary>
        private unsafe double Residual(int row, T* sums, Span<double> share)
        {
            double rowSum = double.CreateTruncating(sums[_d]), r = 0, loss = 0;
            Span<double> extras = share[(_d * _d)..];
            if (double.IsNaN(rowSum) ? !double.IsNaN(extras[1]) : rowSum < extras[1])
            {
                (extras[1], extras[2]) = (rowSum, row);
            }

            if (!(rowSum > 0))
            {
                extras[3]++;
                new Span<T>(sums, _d + 1).Clear();
                return rowSum;
            }

            for (int k = 0; k < _d; k++)
            {
                double forward = double.CreateTruncating(sums[k]) / rowSum;
                double c = forward - double.CreateTruncating(_problem.E[(row * _d) + k]);
                r += c * forward;
                loss += c * c;
                _output.Forward[(row * _d) + k] = T.CreateTruncating(forward);
                sums[k] = T.CreateTruncating(c);
            }

            sums[_d] = T.CreateTruncating(-r);
            extras[0] += loss;
            return rowSum;
        }

        /// <summary>z[r][β] = Σ_l factors[r][l] slope[l][β] for four queries.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private unsafe void Adjoints(T* factors, T* slope, T* z)
        {
            int stride = _moments.Stride, columns = _d + 1;
            T* f1 = factors + columns, f2 = f1 + columns, f3 = f2 + columns;
            for (int b = 0; b < stride; b += Vector<T>.Count)
            {
                Vector<T> s0 = Vector<T>.Zero, s1 = s0, s2 = s0, s3 = s0;
                for (int l = 0; l < columns; l++)
                {
                    Vector<T> moment = Vector.Load(slope + ((long)l * stride) + b);
                    s0 = Lanes.MulAdd(Vector.Create(factors[l]), moment, s0);
                    s1 = Lanes.MulAdd(Vector.Create(f1[l]), moment, s1);
                    s2 = Lanes.MulAdd(Vector.Create(f2[l]), moment, s2);
                    s3 = Lanes.MulAdd(Vector.Create(f3[l]), moment, s3);
                }

                Vector.Store(s0, z + b);
                Vector.Store(s1, z + stride + b);
                Vector.Store(s2, z + (2L * stride) + b);
                Vector.Store(s3, z + (3L * stride) + b);
            }
        }

        /// <summary>dQ = ∇_q Σ_β z_β q^β, from the highest degree down; z is used up.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private unsafe void Sweep(T* q, T* phi, T* z, T* dQ)
        {
            Monomials table = _operands.Table;
            fixed (int* starts = table.Starts, firsts = table.FirstOfDegree)
            {
                for (int m = table.Degree; m >= 1; m--)
                {
                    for (int i = 0; i < _d; i++)
                    {
                        int parent = m == 1 ? 0 : starts[((m - 1) * _d) + i];
                        int length = firsts[m] - parent, t = 0;
                        T* features = phi + parent, up = z + parent, down = z + starts[(m * _d) + i];
                        T x = q[i], sum = T.Zero;
                        if (length >= Vector<T>.Count)
                        {
                            Vector<T> factor = Vector.Create(x), total = Vector<T>.Zero;
                            for (; t <= length - Vector<T>.Count; t += Vector<T>.Count)
                            {
                                Vector<T> child = Vector.Load(down + t);
                                total = Lanes.MulAdd(Vector.Load(features + t), child, total);
                                Vector.Store(Lanes.MulAdd(factor, child, Vector.Load(up + t)), up + t);
                            }

                            sum = Vector.Sum(total);
                        }

                        for (; t < length; t++)
                        {
                            sum += features[t] * down[t];
                            up[t] += x * down[t];
                        }

                        dQ[i] += sum;
                    }
                }
            }
        }
    }
}
