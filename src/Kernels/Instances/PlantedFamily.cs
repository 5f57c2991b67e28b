using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>As uniform, but some rows and keys are aligned, so that the logits reach what the bound allows.</summary>
/// <remarks>
/// Pair number k is a query B σ and a key B σ (k even) or −B σ (k odd) with σ random signs: their logit is B² or −B².
/// Random instances crowd around 0 (standard deviation B² / (3 √d)) and flatter a polynomial; these do not.
/// </remarks>
public sealed class PlantedFamily : IInstanceFamily
{
    private const int Usual = 4;

    public string Name => "planted";

    public string Summary => "As uniform, with some rows and keys aligned so that their logits are exactly B² and −B².";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("planted_rows", AxisKind.Integer,
            "How many query rows, and as many keys, are aligned so that their logits are exactly B² and −B²; at most n.",
            Default: (long)Usual, Minimum: 1) { NoMoreThan = "n" },
    ];

    public bool NeedsBound => true;

    public AttentionProblem<double> Draw(InstanceRequest request)
    {
        double bound = Draws.Bound(request);
        int n = request.N, d = request.D;
        int pairs = request.Settings.Integer("planted_rows", Math.Min(Usual, n));
        if (pairs < 1 || (pairs > n && pairs != Usual))
        {
            throw new ArgumentException($"planted_rows = {pairs} with n = {n}: a number from 1 to n is needed.");
        }

        // The axis's default is also what an instance of fewer tokens is given: there every row is planted.
        pairs = Math.Min(pairs, n);
        AttentionProblem<double> plain = Draws.Finish(
            request, Draws.Uniform(request, Draws.A1, n * d), Draws.Uniform(request, Draws.A2, n * d));
        double[] query = Product(plain), key = plain.A2;
        int[] rows = Draws.Chosen(request, Draws.Plan, pairs, n);
        int[] keys = Draws.Chosen(request, Draws.Plan + 1, pairs, n);
        double[] signs = Draws.Signs(request, Draws.Plan + 2, pairs * d);
        for (int k = 0; k < pairs; k++)
        {
            for (int c = 0; c < d; c++)
            {
                double aligned = bound * signs[(k * d) + c];
                query[(rows[k] * d) + c] = aligned;
                key[(keys[k] * d) + c] = k % 2 == 0 ? aligned : -aligned;
            }
        }

        return Draws.WithQueries(request, query, key, plain.A3, plain.E);
    }

    private static double[] Product(AttentionProblem<double> problem)
    {
        int n = problem.N, d = problem.D;
        double[] product = new double[n * d];
        for (int i = 0; i < n; i++)
        {
            for (int k = 0; k < d; k++)
            {
                for (int c = 0; c < d; c++)
                {
                    product[(i * d) + c] += problem.A1[(i * d) + k] * problem.X[(k * d) + c];
                }
            }
        }

        return product;
    }
}
