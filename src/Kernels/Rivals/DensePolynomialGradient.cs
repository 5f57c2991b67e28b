using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.AttentionGradient.LowRank;
using Experiments.Kernels.Numbers;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.Rivals;

/// <summary>What low-rank computes, without its features: the polynomial on each logit, by Horner. For errors at any d.</summary>
/// <remarks>
/// P stands for exp in the softmax and b̂' in the gradient, as in <see cref="LowRankGradient"/> (b̂' = P in the paper's form, P'
/// in the reverse form):  F = P(S) h / D;  c = F − E;  r = c·F;  dQ_i = Σ_j b̂'(s_ij) (c_i·h_j − r_i) κ_j / D_i.
/// Fit       by low-rank's own code from the same data, so that degree, radius and coefficients are the same ones.
/// Cost      n² (4 d + g + 3) multiply-adds; memory O(n) a thread, nothing n × n. The rank is low-rank's own, C(d + g, g), which
///           costs nothing here: at d = 64 a degree of 8 is as cheap as at d = 4.
/// Error     low-rank's to rounding, and better in float32: nothing is summed over monomials.
/// Order     of every sum fixed by n and d, so the bits do not depend on the number of threads.
/// Source    Alman and Song 2024, section 4, with the polynomial left unexpanded.
/// </remarks>
public sealed class DensePolynomialGradient : IGradientKernel
{
    public string Name => "dense-polynomial";

    public string Summary => "What low-rank computes, by Horner on every logit: O(n² d), for the error alone at any d.";

    /// <summary>Low-rank's own, so that what is asked of one can be asked of the other.</summary>
    public IReadOnlyList<Axis> Axes { get; } = new LowRankGradient().Axes;

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) =>
        PredictWithin(n, d, bytesPerNumber, threads, settings, double.PositiveInfinity);

    public KernelCost PredictWithin(int n, int d, int bytesPerNumber, int threads, Settings settings, double logitBound)
    {
        LowRankChoice choice = LowRankChoice.Of(settings, d, dense: true);
        if (choice.IsAutomatic)
        {
            choice = choice.WithDegreeFor(choice.Radius ?? logitBound) ?? choice.WithHighestDegree();
        }

        int keys = Panels.Padded<float>(n);
        if ((double)(d + 1) * keys > Array.MaxLength)
        {
            throw new ArgumentException(
                $"n = {n} and d = {d}: dense-polynomial keeps n × (d + 1) numbers in one array, which holds 2^31 of them. "
                + "Lower n or d.");
        }

        double horner = choice.Degree * (choice.Reverse ? 2 : 1);
        double flops = ((double)n * n * ((8 * d) + (2 * horner) + 5)) + (6.0 * n * d * d);
        double bytes = Operands<float>.Bytes(n, d, bytesPerNumber) + (((2.0 * d) + 1) * keys * bytesPerNumber)
            + FeatureRows<float>.Bytes(n, d, keys, PolynomialRows<float>.Scratch, threads, bytesPerNumber);
        long rank = Monomials.CountOf(d, choice.Degree);
        return new(flops, bytes, rank == long.MaxValue ? null : rank);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        LowRankChoice choice = LowRankChoice.Of(settings, problem.D, dense: true);
        int n = problem.N, d = problem.D, columns = Panels.Padded<T>(n);
        context.Phase?.Invoke("project");
        using Operands<T> operands = new(problem, 1, problem.Divisor, choice.Centred, context.Cancellation);
        ExpPolynomial polynomial;
        using (Projections<T> projections = new(problem, choice.Centred, choice.Basis == "hermite", context.Cancellation))
        {
            projections.Run(context.Threads);
            (choice, polynomial) = LogitFit.Of(choice, problem, projections);
        }

        output.FittedDegree = choice.Degree;
        output.FittedRadius = polynomial.Radius;
        output.PredictedExpError = polynomial.RelativeError;
        T[] keys = ScratchMemory.Rent<T>(checked(d * columns));
        T[] values = ScratchMemory.Rent<T>(checked((d + 1) * columns));
        try
        {
            Transpose(operands.Keys, n, d, keys, columns, context.Cancellation);
            Transpose(operands.H, n, d, values, columns, context.Cancellation);
            values.AsSpan(d * columns, columns).Clear();
            values.AsSpan(d * columns, n).Fill(T.One);
            context.Phase?.Invoke("rows");
            using PolynomialRows<T> rows = new(
                operands, keys, values, columns, polynomial, choice.Reverse, output, context);
            rows.Run(rows.ChunkCount, context.Threads, context.Cancellation);
            context.Phase?.Invoke("reduce");
            rows.Finish([], choice.Basis == "minimax"
                ? "raise the degree, lower the bound, or leave radius out"
                : "raise the degree, use basis minimax, or lower the bound");
            Checks.ThrowIfNotFinite(output);
        }
        finally
        {
            ScratchMemory.Return(keys);
            ScratchMemory.Return(values);
        }
    }

    private static void Transpose<T>(T[] rows, int n, int d, T[] panel, int columns, CancellationToken cancellation)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int k = 0; k < d; k++)
        {
            cancellation.ThrowIfCancellationRequested();
            Span<T> into = panel.AsSpan(k * columns, columns);
            for (int j = 0; j < n; j++)
            {
                into[j] = rows[(j * d) + k];
            }

            into[n..].Clear();
        }
    }
}

/// <summary>Rows whose columns are the keys themselves: φ_j = P(s_ij).</summary>
internal sealed unsafe class PolynomialRows<T> : FeatureRows<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>Arrays of eight rows that a thread needs: P(s), z, and the slope.</summary>
    public const int Scratch = 3;

    private readonly T[] _keys;
    private readonly T[] _value;
    private readonly T[] _slope;
    private readonly bool _slopeIsValue;

    public PolynomialRows(
        Operands<T> operands, T[] keys, T[] values, int columns, ExpPolynomial polynomial, bool reverse,
        GradientOutput<T> output, KernelContext context)
        : base(operands, values, columns, operands.D + 1, Scratch, 64, output, context.Cancellation)
    {
        _keys = keys;
        double[] hat = reverse ? polynomial.A : polynomial.PaperHat();
        _value = [.. polynomial.A.Select(T.CreateTruncating)];
        _slope = [.. hat.Skip(1).Select((b, m) => T.CreateTruncating(b * (m + 1)))];
        _slopeIsValue = !reverse;
        SeesLogits = context.Statistics;
    }

    protected override bool SeesLogits { get; }

    protected override void Features(int first, int count, T* q, T* phi, T* rest, Span<double> logits)
    {
        fixed (T* keys = _keys)
        {
            Panels.Expand(q, D, D, keys, Columns, Columns, phi, Columns);
        }

        for (int r = 0; SeesLogits && r < count; r++)
        {
            // What centring took off every logit of the row.
            double offset = 0;
            for (int k = 0; k < D; k++)
            {
                offset += double.CreateTruncating(q[(r * D) + k]) * Operands.MeanKey[k] / Operands.Problem.Divisor;
            }

            Measure(phi + ((long)r * Columns), offset, logits);
        }

        // In the paper's form the slope is P itself.
        long all = (long)Panels.Rows * Columns;
        if (!_slopeIsValue)
        {
            Horner(phi, rest, all, _slope);
        }

        Horner(phi, phi, all, _value);
    }

    protected override void Gradient(T* phi, T* z, T* rest, double* dQ)
    {
        T* slope = _slopeIsValue ? phi : rest;
        long all = (long)Panels.Rows * Columns;
        for (long j = 0; j < all; j += Vector<T>.Count)
        {
            Vector.Store(Vector.Load(slope + j) * Vector.Load(z + j), z + j);
        }

        fixed (T* keys = _keys)
        {
            Panels.Contract(z, Columns, Columns, keys, Columns, D, dQ, D);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Horner(T* x, T* y, long count, T[] coefficients)
    {
        // Four vectors at a time hide the latency of one multiply-add behind the others'; columns are padded to two vectors and
        // there are eight rows, so four always divide them.
        int v = Vector<T>.Count;
        Vector<T> top = Vector.Create(coefficients[^1]);
        for (long j = 0; j < count; j += 4 * v)
        {
            Vector<T> x0 = Vector.Load(x + j), x1 = Vector.Load(x + j + v);
            Vector<T> x2 = Vector.Load(x + j + (2 * v)), x3 = Vector.Load(x + j + (3 * v));
            Vector<T> y0 = top, y1 = top, y2 = top, y3 = top;
            for (int m = coefficients.Length - 2; m >= 0; m--)
            {
                Vector<T> a = Vector.Create(coefficients[m]);
                y0 = Lanes.MulAdd(y0, x0, a);
                y1 = Lanes.MulAdd(y1, x1, a);
                y2 = Lanes.MulAdd(y2, x2, a);
                y3 = Lanes.MulAdd(y3, x3, a);
            }

            Vector.Store(y0, y + j);
            Vector.Store(y1, y + j + v);
            Vector.Store(y2, y + j + (2 * v));
            Vector.Store(y3, y + j + (3 * v));
        }
    }

    // Over real keys alone: padding has the logit 0, which centring has not moved.
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void Measure(T* row, double offset, Span<double> logits)
    {
        int v = Vector<T>.Count, whole = N / v * v;
        Vector<T> most = Vector.Create(row[0]), least = most;
        double sum = 0, squares = 0;
        for (int first = 0; first < whole; first += 64 * v)
        {
            Vector<T> part = Vector<T>.Zero, square = Vector<T>.Zero;
            int end = Math.Min(whole, first + (64 * v));
            for (int j = first; j < end; j += v)
            {
                Vector<T> s = Vector.Load(row + j);
                most = Vector.MaxNative(most, s);
                least = Vector.MinNative(least, s);
                part += s;
                square = Lanes.MulAdd(s, s, square);
            }

            sum += double.CreateTruncating(Vector.Sum(part));
            squares += double.CreateTruncating(Vector.Sum(square));
        }

        double high = double.NegativeInfinity, low = double.PositiveInfinity;
        for (int lane = 0; lane < v; lane++)
        {
            high = Math.Max(high, double.CreateTruncating(most[lane]));
            low = Math.Min(low, double.CreateTruncating(least[lane]));
        }

        for (int j = whole; j < N; j++)
        {
            double s = double.CreateTruncating(row[j]);
            (high, low, sum, squares) = (Math.Max(high, s), Math.Min(low, s), sum + s, squares + (s * s));
        }

        logits[0] = Math.Max(logits[0], Math.Max(Math.Abs(high + offset), Math.Abs(low + offset)));
        logits[1] += squares + (2 * offset * sum) + (N * offset * offset);
    }
}
