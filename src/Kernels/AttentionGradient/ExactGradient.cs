using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Experiments.Kernels.AttentionGradient.Exact;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>The exact gradient, fused and tiled: nothing of size n × n, one exponential a pair.</summary>
/// <remarks>
/// Rows of which no key has more than a quarter are done a row to a lane, <see cref="LaneRows{V,T}"/>, at the full speed of the processor;
/// the others keep their digits in <see cref="DominatedRows{T}"/>, several times as slow. The data decide, so the bits depend on
/// neither the time nor the number of threads.
/// Cost      O(n² d) time: 4 multiply-adds for each pair and column, one exponential a pair; a fifth product where the logits spread
///           widely.
/// Memory    O(n d) for the operands, O(n) a thread.
/// Error     measured: README.md.
/// Order     fixed by n, d and the vector width, so the bits do not depend on the number of threads.
/// Source    Alman and Song 2024, Definition C.5; the row-wise form as in FlashAttention's backward pass. See README.md.
/// </remarks>
public sealed class ExactGradient : IGradientKernel
{
    // What float64 has beyond float32.
    private const double MoreDigits = 1 << 29;

    public string Name => "exact";

    public string Summary => "The exact gradient, fused and vectorised by blocks of rows, in memory linear in n.";

    public bool IsExact => true;

    public IReadOnlyList<Axis> Axes { get; } = [];

    public bool TakesMask => true;

    public bool GivesAll => true;

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings)
    {
        if ((double)Projection.Padded(d) * DominatedRows<double>.PaddedKeys(n) > Array.MaxLength)
        {
            throw new ArgumentException(
                $"n = {n} and d = {d}: exact keeps n × d numbers in one array, which holds 2^31 of them. Lower n or d.");
        }

        double dominated = DominatedRows<double>.CountChunks(n) * 2.0 * d * d;
        if (Math.Max(dominated, Math.Max(Shares<float>(n, d), Shares<double>(n, d))) > Array.MaxLength)
        {
            throw new ArgumentException(
                $"n = {n} and d = {d}: exact keeps d × d sums for each part of the rows in one array, which holds 2^31 of them. Lower d.");
        }

        // The keys' gradients are as many products and exponentials again, over what the rows have left.
        int times = GradientCall.AsksForAll(settings) ? 2 : 1;
        double pairs = (double)n * n;
        double bytes = bytesPerNumber == sizeof(float) ? Bytes<float>(n, n, d, threads) : Bytes<double>(n, n, d, threads);
        return new((times * pairs * ((8.0 * d) + 1)) + (10.0 * n * d * d), bytes + ((times - 1) * 4.0 * n * (d + 1) * bytesPerNumber), null);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Compute(problem, new RowSet<T>(problem), output, context);

    /// <summary>The sums over the set's rows, and what of the output belongs to a row, for each of them.</summary>
    internal static void Compute<T>(AttentionProblem<T> problem, RowSet<T> set, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Compute(problem, set, output, context, spare: 1);

    private static void Compute<T>(
        AttentionProblem<T> problem, RowSet<T> set, GradientOutput<T> output, KernelContext context, double spare)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        bool isDoubtful = Vector512.IsHardwareAccelerated ? Compute<Lanes512<T>, T>(problem, set, output, context, spare)
            : Vector256.IsHardwareAccelerated ? Compute<Lanes256<T>, T>(problem, set, output, context, spare)
            : Vector128.IsHardwareAccelerated ? Compute<Lanes128<T>, T>(problem, set, output, context, spare)
            : Compute<LanesScalar<T>, T>(problem, set, output, context, spare);
        Checks.ThrowIfAnyIsNotFinite(output);
        if (context.Statistics && !double.IsFinite(output.MaxLogit))
        {
            throw new KernelFailure("A logit is not finite: an input is not, or entries are too large for float64.");
        }

        if (isDoubtful)
        {
            context.Phase?.Invoke("twice the digits");
            if (output is GradientOutput<double> wide)
            {
                ComputePrecisely((AttentionProblem<double>)(object)problem, (RowSet<double>)(object)set, wide, context);
            }
            else
            {
                ComputeWidened(problem, set, output, context);
            }

            Checks.ThrowIfAnyIsNotFinite(output);
        }
    }

    private static void ComputePrecisely(
        AttentionProblem<double> problem, RowSet<double> set, GradientOutput<double> output, KernelContext context)
    {
        using PreciseRows rows = new(problem, set, output, context.Cancellation);
        rows.Run(rows.ChunkCount, context.Threads, context.Cancellation);
        rows.Finish(context.Threads);
    }

    // The facts that were told of the first pass stay: they are of the logits, which lose nothing.
    private static void ComputeWidened<T>(AttentionProblem<T> problem, RowSet<T> set, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AttentionProblem<double> wide = problem.To<double>();
        GradientOutput<double> result = new(set.Count, problem.D)
        {
            DQ = Like(output.DQ),
            DK = Like(output.DK),
            DV = Like(output.DV),
        };
        Compute(wide, set.Of(wide), result, context with { Phase = null, Statistics = false }, MoreDigits);
        output.Loss = result.Loss;
        Narrow(result.DX, output.DX);
        Narrow(result.DY, output.DY);
        Narrow(result.Forward, output.Forward);
        Narrow(result.DQ, output.DQ);
        Narrow(result.DK, output.DK);
        Narrow(result.DV, output.DV);

        static double[]? Like(T[]? values) => values is null ? null : new double[values.Length];

        static void Narrow(double[]? from, T[]? to)
        {
            for (int i = 0; from is not null && i < from.Length; i++)
            {
                to![i] = T.CreateTruncating(from[i]);
            }
        }
    }

    /// <returns>Whether rounding may have cost dX too much.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static unsafe bool Compute<V, T>(
        AttentionProblem<T> problem, RowSet<T> set, GradientOutput<T> output, KernelContext context, double spare)
        where V : struct, ILanes<V, T>
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int d = problem.D;
        using AlignedBuffer<double> sums = AlignedBuffer<double>.Zeroed(2L * d * d);
        Span<double> dX = new(sums.Start, d * d), dY = new(sums.Start + (d * d), d * d);
        context.Phase?.Invoke("project");
        using LaneRows<V, T> rows = new(problem, set, output, context);
        rows.Prepare(context.Threads, context.Cancellation);
        context.Phase?.Invoke("rows");
        rows.Run(rows.ChunkCount, context.Threads, context.Cancellation);
        rows.Finish(dX, dY, context.Threads, context.Cancellation);
        rows.RunKeys(context);
        int[] dominated = [.. rows.DominatedRows];
        Doubt doubt = rows.Doubt;
        if (dominated.Length > 0)
        {
            context.Phase?.Invoke("dominated rows");
            using DominatedRows<T> others = new(problem, set, dominated, output, context.Cancellation);
            others.Prepare();
            others.Run(others.ChunkCount, context.Threads, context.Cancellation);
            others.Finish(dX, dY);
            doubt = Doubt.Sum(doubt, others.Doubt);
            if (output.DK is not null || output.DV is not null)
            {
                DominatedKeys<T> keys = new(problem, dominated, output, context.Cancellation);
                keys.Run(keys.ChunkCount, context.Threads, context.Cancellation);
            }
        }

        context.Phase?.Invoke("reduce");
        Round(dX, output.DX);
        Round(dY, output.DY);
        output.NonPositiveRowSums = 0;
        output.FittedRadius = double.NaN;
        output.PredictedExpError = double.NaN;
        return doubt.IsLarge(output, problem.Divisor, spare);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Round<T>(ReadOnlySpan<double> sums, T[] output)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int i = 0;
        if (output is double[] same)
        {
            sums.CopyTo(same);
            return;
        }

        if (output is float[] single)
        {
            for (int two = 2 * Vector<double>.Count; i <= sums.Length - two; i += two)
            {
                Vector.Narrow(new Vector<double>(sums[i..]), new Vector<double>(sums[(i + Vector<double>.Count)..])).CopyTo(single, i);
            }
        }

        for (; i < sums.Length; i++)
        {
            output[i] = T.CreateTruncating(sums[i]);
        }
    }

    // Of the vectors whose chunks are the most.
    private static double Shares<T>(int n, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Math.Max(
            Math.Max(LaneRows<Lanes512<T>, T>.Shares(n, d), LaneRows<Lanes256<T>, T>.Shares(n, d)),
            Math.Max(LaneRows<Lanes128<T>, T>.Shares(n, d), LaneRows<LanesScalar<T>, T>.Shares(n, d)));

    // Every row may turn out to be dominated, and the problem to need twice the digits: the operands of all ways are counted, as what one gave back
    // may still be held when the next takes its own. So are the vectors that would hold most: those of the machine that is asked need not be
    // those of the one that computes, and where wide ones make exponentials again narrow ones may keep them.
    internal static double Bytes<T>(int n, int rows, int d, int threads)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double lanes = Math.Max(
            Math.Max(LaneRows<Lanes512<T>, T>.Bytes(n, rows, d, threads), LaneRows<Lanes256<T>, T>.Bytes(n, rows, d, threads)),
            Math.Max(LaneRows<Lanes128<T>, T>.Bytes(n, rows, d, threads), LaneRows<LanesScalar<T>, T>.Bytes(n, rows, d, threads)));
        double usual = lanes + DominatedRows<T>.Bytes(n, rows, d, threads);
        double widened = ((4.0 * n) + (2.0 * rows) + (3.0 * d)) * d * sizeof(double);
        return usual + (typeof(T) == typeof(double)
            ? PreciseRows.Bytes(n, rows, d, threads) : Bytes<double>(n, rows, d, threads) + widened);
    }
}
