using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>Positive random features (FAVOR+): e^(q·κ) = E φ_ω(q) φ_ω(κ), φ_ω(x) = e^(ω·x − ‖x‖²/2), ω ~ N(0, I).</summary>
/// <remarks>
/// Scale     q = A1 X / √d, κ = (A2 − mean) / √d, so that q·κ is the logit, in d as the source has it.
/// Keys      M_a = Σ_j φ_a(κ_j) (h_j, 1);  queries: F = Σ_a φ_a(q) M_ah / D, D = Σ_a φ_a(q) M_a1.
/// Form      reverse: dX is the true gradient of the loss so approximated, as a program that trains with these features
///           computes it. The exact formula with f replaced would need Σ_j φ_a(κ_j) h_j κ_jᵀ, d times the work.
/// Stable    exponents are taken relative to each feature's largest over the keys and to each row's largest: D ≥ 1 always, no
///           input overflows, and no constant is added to D as published code does, which would be a bias.
/// Cost      n m (6 d + 5) multiply-adds and 2 n m exponentials; state m (d + 2).
/// Error     of order m^(−1/2), with a factor that grows like e^(‖q + κ‖²/2): measured slope −0.5 where entries are at most 1,
///           flatter beyond.
/// Order     of every sum fixed by the shape and m alone, so the bits do not depend on the number of threads.
/// Source    Choromanski and others, "Rethinking attention with Performers", ICLR 2021, Lemma 1 and section 3.2.
/// </remarks>
public sealed class PerformerGradient : IGradientKernel
{
    private const int MostFeatures = 1 << 20;

    public string Name => "performer";

    public string Summary => "An approximate gradient in time linear in n, by positive random features (FAVOR+).";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("features", AxisKind.Integer, "m, how many random features; the error falls like m^(-1/2).",
            Minimum: 1, Maximum: MostFeatures, Required: true),
        RivalSettings.Orthogonal,
        RivalSettings.Seed,
        RivalSettings.Centred,
    ];

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings)
    {
        int m = Features(settings, d);
        double flops = ((double)n * m * ((12 * d) + 12)) + (6.0 * n * d * d);
        double bytes = Operands<float>.Bytes(n, d, bytesPerNumber)
            + KeyPass<float>.Bytes(n, m, d + 1, 1, threads, bytesPerNumber)
            + FeatureRows<float>.Bytes(n, d, m, ExponentialRows<float>.Scratch, threads, bytesPerNumber)
            + (m * ((8.0 * d) + (((2 * d) + 2) * bytesPerNumber)));
        return new(flops, bytes, m);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int d = problem.D, m = Features(settings, d), columns = Panels.Padded<T>(m);
        context.Phase?.Invoke("project");
        double root = Math.Sqrt(problem.Divisor);
        using Operands<T> operands = new(problem, root, root, settings.Flag("centred", true), context.Cancellation);
        T[] frequencies = ScratchMemory.Rent<T>(d * columns);
        T[] panel = ScratchMemory.Rent<T>(checked((d + 1) * columns));
        T[] exponents = ScratchMemory.Rent<T>(columns);
        try
        {
            RivalSettings.Transpose(
                Frequencies.Of(m, d, settings.Flag("orthogonal", true), settings.Integer("seed", 0)), m, d,
                frequencies.AsSpan(), columns);
            context.Phase?.Invoke("moments");
            using (ExponentialMoments<T> moments = new(operands, frequencies, columns, gaussian: true, context.Cancellation))
            {
                moments.Run(moments.ChunkCount, context.Threads, context.Cancellation);
                moments.Reduce();
                for (int a = 0; a < columns; a++)
                {
                    bool real = a < m;
                    exponents[a] = real ? T.CreateTruncating(moments.Sum[((d + 1) * columns) + a]) : T.NegativeInfinity;
                    for (int l = 0; l <= d; l++)
                    {
                        panel[(l * columns) + a] = real ? T.CreateTruncating(moments.Sum[(l * columns) + a]) : T.Zero;
                    }
                }
            }

            context.Phase?.Invoke("rows");
            using ExponentialRows<T> rows = new(
                operands, frequencies, exponents, panel, columns, d + 1, 64, output, context.Cancellation);
            rows.Run(rows.ChunkCount, context.Threads, context.Cancellation);
            context.Phase?.Invoke("reduce");
            rows.Finish([], "an input is not finite, or entries are too large for the precision");
            output.FittedRadius = double.NaN;
            output.PredictedExpError = double.NaN;
            Checks.ThrowIfNotFinite(output);
        }
        finally
        {
            ScratchMemory.Return(frequencies);
            ScratchMemory.Return(panel);
            ScratchMemory.Return(exponents);
        }
    }

    private static int Features(Settings settings, int d)
    {
        int m = RivalSettings.Count(settings, "performer", "features", MostFeatures);
        RivalSettings.CheckPanel("performer", "features", m, d);
        return m;
    }
}
