using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>What the drawn families share: streams, distributions, and the scaling to the bound.</summary>
/// <remarks>
/// X and Y are signed permutations, drawn at random: then A1 X and h = A3 Y have the entries' own law, and A1 X is computed
/// without rounding, while neither is the identity, which would hide a product left out. A3 and E are uniform in [−1, 1].
/// Only additions, multiplications, divisions and square roots are used, each rounded once (the compiler fuses none), so
/// that the bits are the same on every machine.
/// </remarks>
internal static class Draws
{
    // A millisecond's worth of numbers.
    private const int BetweenLooks = 1 << 16;

    public const uint A1 = 0, A2 = 1, A3 = 2, E = 3, X = 4, Y = 5, Plan = 6;

    /// <summary>The instance whose A1 X and A2 are these, each scaled to the bound.</summary>
    public static AttentionProblem<double> Finish(InstanceRequest request, double[] query, double[] key)
    {
        double bound = Bound(request);
        int n = request.N, d = request.D;
        Scale(query, bound);
        Scale(key, bound);
        return WithQueries(request, query, key, Uniform(request, A3, n * d), Uniform(request, E, n * d));
    }

    /// <summary>The instance with A1 X = query exactly: A1 = query Xᵀ, for X is a signed permutation.</summary>
    public static AttentionProblem<double> WithQueries(
        InstanceRequest request, double[] query, double[] key, double[] a3, double[] e)
    {
        int n = request.N, d = request.D;
        double[] x = SignedPermutation(request, X, d);
        double[] a1 = new double[n * d];
        for (int k = 0; k < d; k++)
        {
            for (int c = 0; c < d; c++)
            {
                double sign = x[(k * d) + c];
                for (int i = 0; sign != 0 && i < n; i++)
                {
                    a1[(i * d) + k] = sign * query[(i * d) + c];
                }
            }
        }

        return new(n, d, a1, key, a3, e, x, SignedPermutation(request, Y, d));
    }

    /// <exception cref="ArgumentException">n or d below 1, more entries than an array holds, or a bound that is missing or
    /// not positive.</exception>
    public static double Bound(InstanceRequest request)
    {
        CheckShape(request);
        return request.Bound is double bound && bound > 0 && double.IsFinite(bound)
            ? bound
            : throw new ArgumentException(
                $"bound = {request.Bound?.ToString("R", null) ?? "none"}: the family needs a bound above 0, such as bound: 1.");
    }

    public static void CheckShape(InstanceRequest request)
    {
        if (request.N < 1 || request.D < 1)
        {
            throw new ArgumentException($"n = {request.N} and d = {request.D}: both must be at least 1.");
        }

        if ((long)request.N * request.D > Array.MaxLength || (long)request.D * request.D > Array.MaxLength)
        {
            throw new ArgumentException(
                $"n = {request.N} and d = {request.D}: a matrix of this shape has more than 2^31 entries. Lower n or d.");
        }
    }

    /// <summary>Uniform in [−1, 1), multiples of 2^−52.</summary>
    public static double[] Uniform(InstanceRequest request, uint stream, int count)
    {
        double[] values = new double[count];
        for (int i = 0; i < count; i++)
        {
            Look(request, i);
            values[i] = ((Philox.Bits(request.Key, stream, (ulong)i) >> 11) * (1.0 / (1L << 52))) - 1;
        }

        return values;
    }

    /// <summary>Standard normal, by inversion.</summary>
    public static double[] Gaussian(InstanceRequest request, uint stream, int count)
    {
        double[] values = new double[count];
        for (int i = 0; i < count; i++)
        {
            Look(request, i);
            // The middle of one of 2^52 cells: never 0, never 1.
            double p = ((Philox.Bits(request.Key, stream, (ulong)i) >> 12) + 0.5) * (1.0 / (1L << 52));
            values[i] = Normal.Quantile(p);
        }

        return values;
    }

    /// <summary>−1 or 1, a fair coin each.</summary>
    public static double[] Signs(InstanceRequest request, uint stream, int count)
    {
        double[] values = new double[count];
        for (int i = 0; i < count; i++)
        {
            Look(request, i);
            values[i] = Philox.Bits(request.Key, stream, (ulong)i) >> 63 == 0 ? 1 : -1;
        }

        return values;
    }

    /// <summary>Different numbers below <paramref name="range"/>, in random order (Fisher and Yates).</summary>
    public static int[] Chosen(InstanceRequest request, uint stream, int count, int range)
    {
        int[] all = new int[range];
        for (int i = 0; i < range; i++)
        {
            all[i] = i;
        }

        for (int i = 0; i < count; i++)
        {
            ulong bits = Philox.Bits(request.Key, stream, (ulong)i);
            int at = i + (int)Math.BigMul(bits, (ulong)(range - i), out _);
            (all[i], all[at]) = (all[at], all[i]);
        }

        return all[..count];
    }

    private static void Look(InstanceRequest request, int i)
    {
        if (i % BetweenLooks == 0)
        {
            request.Cancellation.ThrowIfCancellationRequested();
        }
    }

    private static double[] SignedPermutation(InstanceRequest request, uint stream, int d)
    {
        double[] matrix = new double[d * d];
        int[] order = Chosen(request, stream, d, d);
        for (int k = 0; k < d; k++)
        {
            ulong coin = Philox.Bits(request.Key, stream, (ulong)(d + k));
            matrix[(k * d) + order[k]] = coin >> 63 == 0 ? 1 : -1;
        }

        return matrix;
    }

    private static void Scale(double[] values, double bound)
    {
        double largest = 0;
        foreach (double value in values)
        {
            largest = Math.Max(largest, Math.Abs(value));
        }

        // Divided first: the largest becomes exactly 1, then exactly the bound, and no other exceeds it.
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = largest == 0 ? bound : values[i] / largest * bound;
        }
    }
}
