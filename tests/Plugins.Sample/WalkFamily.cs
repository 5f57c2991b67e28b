using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace MyKernels;

/// <summary>Tokens of a random walk, so that neighbours are alike: where a window of keys is most of what a row attends to.</summary>
public sealed class WalkFamily : IInstanceFamily
{
    public string Name => "walk";

    public string Summary => "Rows of A1 = A2 make a random walk, scaled so that the largest entry is B.";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("memory", AxisKind.Real, "How much of a token is kept in the next, 0 for none.", Default: 0.9, Minimum: 0, Maximum: 1),
    ];

    public bool NeedsBound => true;

    public AttentionProblem<double> Draw(InstanceRequest request)
    {
        (int n, int d, double memory) = (request.N, request.D, request.Settings.Real("memory", 0.9));
        double[] tokens = Uniform(request, 0, n * d), identity = new double[d * d];
        for (int i = d; i < n * d; i++)
        {
            tokens[i] = (memory * tokens[i - d]) + ((1 - memory) * tokens[i]);
        }

        double bound = request.Bound ?? throw new ArgumentException("walk needs a bound, such as bound: 1.");
        double largest = tokens.Max(Math.Abs);
        for (int i = 0; i < n * d; i++)
        {
            // Divided first, so that the largest becomes exactly the bound.
            tokens[i] = tokens[i] / largest * bound;
        }

        for (int k = 0; k < d; k++)
        {
            identity[(k * d) + k] = 1;
        }

        return new(n, d, tokens, tokens, Uniform(request, 1, n * d), Uniform(request, 2, n * d), identity, identity);
    }

    // In [-1, 1), from the request's key alone: the same bits on every machine.
    private static double[] Uniform(InstanceRequest request, uint stream, int count)
    {
        double[] values = new double[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = ((Philox.Bits(request.Key, stream, (ulong)i) >> 11) * (1.0 / (1L << 52))) - 1;
        }

        return values;
    }
}
