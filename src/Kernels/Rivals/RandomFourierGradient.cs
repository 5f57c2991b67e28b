using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>Random Fourier features of the Gaussian kernel: e^(q·κ) = e^(‖q‖²/2) e^(‖κ‖²/2) E cos(ω·(q − κ)), ω ~ N(0, I).</summary>
/// <remarks>
/// Features  cos ω·x and sin ω·x of m/2 random vectors, whose products sum to cos(ω·(q − κ)); a query's own factor cancels.
/// Keys      M_a = Σ_j e^((‖κ_j‖² − max)/2) φ_a(κ_j) (h_j, 1);  queries: F = Σ_a φ_a(q) M_ah / D, D = Σ_a φ_a(q) M_a1.
/// Form      reverse, as <see cref="PerformerGradient"/>: the true gradient of the loss so approximated.
/// Cost      n m (5 d + 4) multiply-adds and n m sines or cosines; state m (d + 2).
/// Error     of order m^(−1/2) where row sums stay well above 0. Cosines have both signs: where m is too small for the spread
///           of the logits a row sum is not positive, and that is a failure, not a number.
/// Order     of every sum fixed by the shape and m alone, so the bits do not depend on the number of threads.
/// Source    Rahimi and Recht, "Random features for large-scale kernel machines", NIPS 2007; its use for attention and why its
///           signs hurt: Choromanski and others, ICLR 2021, section 3.1. Pairs rather than phases: Sutherland and
///           Schneider, "On the error of random Fourier features", UAI 2015.
/// </remarks>
public sealed class RandomFourierGradient : IGradientKernel
{
    private const int MostFeatures = 1 << 20;

    public string Name => "random-fourier";

    public string Summary => "An approximate gradient in time linear in n, by random Fourier features of the Gaussian kernel.";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("features", AxisKind.Integer, "m, how many features, an even number: m/2 cosines and as many sines.",
            Minimum: 2, Maximum: MostFeatures, Required: true),
        RivalSettings.Orthogonal,
        RivalSettings.Seed,
        RivalSettings.Centred,
    ];

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings)
    {
        int m = Features(settings, d);
        double flops = ((double)n * m * ((10 * d) + 10)) + (6.0 * n * d * d);
        double bytes = Operands<float>.Bytes(n, d, bytesPerNumber)
            + KeyPass<float>.Bytes(n, m, d + 1, 1, threads, bytesPerNumber)
            + FeatureRows<float>.Bytes(n, d, m, FourierRows<float>.Scratch, threads, bytesPerNumber)
            + (m * ((4.0 * d) + (((1.5 * d) + 1) * bytesPerNumber)));
        return new(flops, bytes, m);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int d = problem.D, half = Features(settings, d) / 2, columns = Panels.Padded<T>(half);
        context.Phase?.Invoke("project");
        double root = Math.Sqrt(problem.Divisor);
        using Operands<T> operands = new(problem, root, root, settings.Flag("centred", true), context.Cancellation);
        T[] frequencies = ScratchMemory.Rent<T>(d * columns);
        T[] panel = ScratchMemory.Rent<T>(checked((d + 1) * 2 * columns));
        try
        {
            RivalSettings.Transpose(
                Frequencies.Of(half, d, settings.Flag("orthogonal", true), settings.Integer("seed", 0)), half, d,
                frequencies.AsSpan(), columns);
            context.Phase?.Invoke("moments");
            using (FourierMoments<T> moments = new(operands, frequencies, columns, context.Cancellation))
            {
                moments.Run(moments.ChunkCount, context.Threads, context.Cancellation);
                moments.Reduce();
                for (int l = 0; l <= d; l++)
                {
                    for (int a = 0; a < 2 * columns; a++)
                    {
                        int at = (l * 2 * columns) + a;
                        panel[at] = a % columns < half ? T.CreateTruncating(moments.Sum[at]) : T.Zero;
                    }
                }
            }

            context.Phase?.Invoke("rows");
            using FourierRows<T> rows = new(operands, frequencies, panel, columns, output, context.Cancellation);
            rows.Run(rows.ChunkCount, context.Threads, context.Cancellation);
            context.Phase?.Invoke("reduce");
            rows.Finish([], "raise features, lower the bound, or use performer, whose features are positive");
            output.FittedRadius = double.NaN;
            output.PredictedExpError = double.NaN;
            Checks.ThrowIfNotFinite(output);
        }
        finally
        {
            ScratchMemory.Return(frequencies);
            ScratchMemory.Return(panel);
        }
    }

    private static int Features(Settings settings, int d)
    {
        int m = RivalSettings.Count(settings, "random-fourier", "features", MostFeatures);
        if (m % 2 != 0)
        {
            throw new ArgumentException(
                $"features = {m}: random-fourier has a cosine and a sine of each vector, so an even number is needed, such as {m + 1}.");
        }

        RivalSettings.CheckPanel("random-fourier", "features", m, d);
        return m;
    }
}

/// <summary>Moments of cosines, then sines, weighted by e^(‖κ‖²/2) over its largest.</summary>
internal sealed unsafe class FourierMoments<T>(
    Operands<T> operands, T[] frequencies, int frequencyColumns, CancellationToken cancellation)
    : KeyPass<T>(operands, 2 * frequencyColumns, operands.D + 1, 1, cancellation)
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly T[] _frequencies = frequencies;
    private readonly double _longest = operands.LongestKeySquare;

    protected override void Add(T* keys, T* coefficients, T* rows, T* panel)
    {
        int d = Operands.D;
        for (int r = 0; r < Panels.Rows; r++)
        {
            double square = 0;
            for (int k = 0; k < d; k++)
            {
                double key = double.CreateTruncating(keys[(r * d) + k]);
                square += key * key;
            }

            T weight = T.CreateTruncating(Math.Exp((square - _longest) / 2));
            for (int l = 0; l <= d; l++)
            {
                coefficients[(r * (d + 1)) + l] *= weight;
            }
        }

        FourierRows<T>.Make(keys, d, _frequencies, Columns / 2, rows);
        Panels.Accumulate(coefficients, d + 1, Width, rows, Columns, Columns, panel, Columns);
    }
}

/// <summary>Rows whose features are cosines, then sines: ∇cos ω·q = −ω sin ω·q, ∇sin ω·q = ω cos ω·q.</summary>
internal sealed unsafe class FourierRows<T>(
    Operands<T> operands, T[] frequencies, T[] moments, int frequencyColumns, GradientOutput<T> output,
    CancellationToken cancellation)
    : FeatureRows<T>(operands, moments, 2 * frequencyColumns, operands.D + 1, Scratch, 64, output, cancellation)
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>Arrays of eight rows that a thread needs.</summary>
    public const int Scratch = 2;

    private readonly T[] _frequencies = frequencies;

    /// <summary>[8][2 columns] of cosines and sines of ω·x.</summary>
    public static void Make(T* x, int d, T[] frequencies, int columns, T* rows)
    {
        fixed (T* panel = frequencies)
        {
            Panels.Expand(x, d, d, panel, columns, columns, rows, 2L * columns);
        }

        CosinesAndSines(rows, columns);
    }

    protected override void Features(int first, int count, T* q, T* phi, T* rest, Span<double> logits) =>
        Make(q, D, _frequencies, Columns / 2, phi);

    protected override void Gradient(T* phi, T* z, T* rest, double* dQ)
    {
        int columns = Columns / 2;
        Turn(phi, z, columns);
        fixed (T* frequencies = _frequencies)
        {
            Panels.Contract(z, Columns, columns, frequencies, columns, D, dQ, D);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void CosinesAndSines(T* rows, int columns)
    {
        for (int r = 0; r < Panels.Rows; r++, rows += 2L * columns)
        {
            for (int a = 0; a < columns; a += Vector<T>.Count)
            {
                (Vector<T> sine, Vector<T> cosine) = Angles.SinCos(Vector.Load(rows + a));
                Vector.Store(cosine, rows + a);
                Vector.Store(sine, rows + columns + a);
            }
        }
    }

    // z becomes z_sin cos − z_cos sin, in the place of the cosines.
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Turn(T* phi, T* z, int columns)
    {
        for (int r = 0; r < Panels.Rows; r++, phi += 2L * columns, z += 2L * columns)
        {
            for (int a = 0; a < columns; a += Vector<T>.Count)
            {
                Vector<T> turned = (Vector.Load(z + columns + a) * Vector.Load(phi + a))
                    - (Vector.Load(z + a) * Vector.Load(phi + columns + a));
                Vector.Store(turned, z + a);
            }
        }
    }
}
