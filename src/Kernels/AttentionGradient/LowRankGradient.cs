using System.Numerics;
using System.Runtime.Intrinsics;
using Experiments.Kernels.AttentionGradient.LowRank;
using Experiments.Kernels.Numbers;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>An approximate gradient in time linear in n: exp is a polynomial of degree g, and sums over keys are moments.</summary>
/// <remarks>
/// Keys      M_β = Σ_j κ_j^β (h_j, 1) for all |β| ≤ G, with κ = (a2 − mean) / d (or √d, as the problem says).
/// Queries   (F D, D) = Σ_β a_|β| W_β q^β M_β;  c = F − E;  r = c·F;
///           dQ = ∇_q Σ_β b̂_|β| W_β q^β (c·M_β,h − r M_β,1) / D;  dX = A1ᵀ dQ.
/// All       where dK or dV is asked for, the same two passes with queries and keys in each other's place: N_β = Σ_i q_i^β (c_i, r_i) / D_i;
///           dV = Σ_β a_|β| W_β κ^β N_β,c;  dY = A3ᵀ dV;  dK = ∇_κ Σ_β b̂_|β| W_β κ^β (h·N_β,c − N_β,r) / divisor, through the mean key too where
///           that was subtracted. dY is NaN where neither is asked for.
/// Form      paper (the default): b̂_m = a_(m−1) / m, G = g + 1: the exact formula with exp replaced by P.
///           reverse: b̂ = a, G = g: the true gradient of the loss with exp replaced by P, in every matrix.
/// Basis     minimax (the default: a guarantee for every input); taylor (often better on random inputs, whose logits crowd
///           around 0); chebyshev (the series cut off: the warning that absolute error is the wrong thing to make small);
///           hermite (least mean square error for normal logits of the data's mean and variance, which follow from Σ q,
///           Σ κ, Σ q qᵀ and Σ κ κᵀ in O(n d²)); least-squares (on a sample of the logits, weight e^(−s/2), the same sample
///           in every run). The last two have no guarantee.
/// Degree    the setting; auto is the least for which PredictedExpError is within the tolerance.
/// Radius    R: the setting (minimax, chebyshev), or the least of two bounds that the data give in O(n d): Σ_c max|q_c| max|κ_c|
///           and max‖q‖ max‖κ‖; then rounded up by these two, see <see cref="ExpPolynomial.RoundUp"/>.
/// Cost      n (d + 1) (2 K + k) multiply-adds and 4 n K more, K = C(d + G, G), k = C(d + g, g); state K (d + 1). All gradients: as much
///           again, and n (d + 1) numbers of state.
/// Error     each exponential is off by at most PredictedExpError for |logits| ≤ R; a row sum that is not positive is a
///           failure, not a number.
/// Order     of every sum fixed by n, d and the settings, so the bits do not depend on the number of threads.
/// Source    Alman and Song 2024, section 4, with the moments of README.md in place of its rank-k d factors.
/// </remarks>
public sealed class LowRankGradient : IGradientKernel
{
    public string Name => "low-rank";

    public string Summary => "An approximate gradient in time linear in n, by moments of polynomial features of a degree.";

    public bool GivesAll => true;

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("degree", AxisKind.Integer, "Degree g of the polynomial that stands for exp; the rank is C(d + g, g). auto: by tolerance.",
            Minimum: 1, Maximum: ExpPolynomial.MaxDegree, Required: true, Word: LowRankChoice.Auto),
        new("tolerance", AxisKind.Real, "Relative error of exp that an automatic degree has to keep.",
            Default: LowRankChoice.UsualTolerance, Minimum: 1e-15, Maximum: 0.5, AppliesTo: ("degree", [LowRankChoice.Auto])),
        new("basis", AxisKind.Choice,
            "Where the coefficients come from: an interval [−R, R] (minimax, chebyshev), 0 (taylor) or the logits (the others).",
            Default: "minimax", Choices: LowRankChoice.Bases),
        new("form", AxisKind.Choice,
            "paper: the exact formula with exp replaced; reverse: the gradient of the approximated loss.",
            Default: "paper", Choices: ["paper", "reverse"]),
        new("centred", AxisKind.Flag, "Whether the mean key is subtracted first, which leaves the exact gradient unchanged.",
            Default: true),
        new("radius", AxisKind.Real, "R, the largest |logit| to fit for; left out, a safe bound is computed from the data.",
            Minimum: ExpPolynomial.MinRadius, Maximum: ExpPolynomial.MaxRadius, AppliesTo: ("basis", LowRankChoice.OnInterval)),
    ];

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) =>
        PredictWithin(n, d, bytesPerNumber, threads, settings, double.PositiveInfinity);

    /// <summary>As <see cref="IGradientKernel.PredictWithin"/>. An automatic degree is predicted from the
    /// radius if one is given, else from the bound, which the data may turn out to keep far within; without either it is the highest
    /// degree there is room for.</summary>
    public KernelCost PredictWithin(int n, int d, int bytesPerNumber, int threads, Settings settings, double logitBound)
    {
        // Vectors of 64 bytes are supposed: with narrower ones there is less padding.
        LowRankChoice choice = LowRankChoice.Of(settings, d);
        if (choice.IsAutomatic)
        {
            choice = choice.WithDegreeFor(choice.Radius ?? logitBound) ?? choice.WithHighestDegree();
            choice.ThrowIfTooLarge();
        }

        double all = choice.Features, value = choice.ValueFeatures, lanes = 64.0 / bytesPerNumber, columns = d + 1;
        int passes = GradientCall.AsksForAll(settings) ? 2 : 1;
        double flops = n * ((passes * ((2 * columns * ((2 * all) + value)) + (6 * all))) + ((2.0 + (4 * passes)) * d * d));
        double slots = all + (lanes * (d + 1)), rows = MomentShape.Tile(value * bytesPerNumber, slots * columns * bytesPerNumber);
        double sums = MomentShape.Chunks(n, slots * columns) * slots * columns * sizeof(double);
        double weighed = (all + value) * columns * bytesPerNumber;
        double near = bytesPerNumber < sizeof(double) ? slots * columns : 0;
        double ofKeys = bytesPerNumber * ((rows * (value + (2 * lanes) + (columns * columns))) + near);
        double ofQueries = bytesPerNumber * 3 * lanes * ((2 * value) + (4 * columns));
        double bytes = sums + weighed + ((double)n * d * bytesPerNumber)
            + (Math.Max(1, threads) * Math.Max(ofKeys, ofQueries)) + (64 * sizeof(double) * ((columns * columns) + 8)) + (12 * all);
        if (passes == 2)
        {
            // What a row of queries leaves for the keys, and the operands of a block of keys; moments take the place of those before.
            bytes += ((double)n * columns * bytesPerNumber) + (Math.Max(1, threads) * 3 * lanes * 3 * columns * (bytesPerNumber + sizeof(double)));
        }

        return new(flops, bytes, choice.ValueFeatures);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        LowRankChoice choice = LowRankChoice.Of(settings, problem.D);
        if (problem.Causal)
        {
            throw new ArgumentException(
                "The problem is causal: every row sees other keys, and low-rank sums over all of them at once. Use exact or "
                + "reference.");
        }

        if (Vector512.IsHardwareAccelerated)
        {
            Compute<Lanes512<T>, T>(problem, choice, output, context);
        }
        else if (Vector256.IsHardwareAccelerated)
        {
            Compute<Lanes256<T>, T>(problem, choice, output, context);
        }
        else if (Vector128.IsHardwareAccelerated)
        {
            Compute<Lanes128<T>, T>(problem, choice, output, context);
        }
        else
        {
            Compute<LanesScalar<T>, T>(problem, choice, output, context);
        }

        if (GivesKeys(output))
        {
            Checks.ThrowIfAnyIsNotFinite(output);
        }
        else
        {
            Checks.ThrowIfNotFinite(output);
        }
    }

    private static unsafe void Compute<L, T>(
        AttentionProblem<T> problem, LowRankChoice choice, GradientOutput<T> output, KernelContext context)
        where L : struct, ILanes<L, T>
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        CancellationToken cancellation = context.Cancellation;
        output.MaxLogit = double.NaN;
        output.RmsLogit = double.NaN;
        context.Phase?.Invoke("project");
        using Projections<T> projections = new(problem, choice.Centred, choice.Basis == "hermite", cancellation);
        projections.Run(context.Threads);
        (choice, ExpPolynomial polynomial) = LogitFit.Of(choice, problem, projections);
        output.FittedDegree = choice.Degree;
        output.FittedRadius = polynomial.Radius;
        output.PredictedExpError = polynomial.RelativeError;

        context.Phase?.Invoke("moments");
        int n = problem.N, d = problem.D;
        FeaturePlan plan = FeaturePlan.Of(d, choice.Top, L.Count);
        using KeyOperands<T> operands = new(problem, projections.MeanKey);
        using WeighedMoments<T> moments = new(
            plan, choice.ValueFeatures, polynomial.A, choice.Reverse ? polynomial.A : polynomial.PaperHat(), cancellation);
        using (KeyMoments<L, T> keys = new(operands, n, plan, cancellation))
        {
            moments.Fill(keys, context.Threads);
        }

        context.Phase?.Invoke("rows");
        bool all = GivesKeys(output);
        using AlignedBuffer<T> residuals = new(all ? (long)n * (d + 1) : 0);
        using QueryRows<L, T> rows = new(
            problem, choice, plan, moments, projections.Queries, all ? residuals.Start : null, output, cancellation);
        rows.Run(rows.ChunkCount, context.Threads, cancellation);

        context.Phase?.Invoke("reduce");
        rows.Finish(choice.Basis == "minimax"
            ? "raise the degree, lower the bound, or leave radius out"
            : "raise the degree, use basis minimax, or lower the bound");
        if (!all)
        {
            // Its array may be one that a call for every gradient has filled.
            Array.Fill(output.DY, T.NaN);
            return;
        }

        // The same two passes with queries and keys in each other's place.
        context.Phase?.Invoke("query moments");
        using (QueryMoments<L, T> queries = new(projections.Queries, residuals.Start, n, plan, cancellation))
        {
            moments.Fill(queries, context.Threads);
        }

        context.Phase?.Invoke("keys");
        using KeyRows<L, T> ofKeys = new(problem, choice, plan, moments, operands, output, cancellation);
        ofKeys.Run(context.Threads);
    }

    private static bool GivesKeys<T>(GradientOutput<T> output)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => output.DK is not null || output.DV is not null;
}
