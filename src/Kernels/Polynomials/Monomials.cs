using System.Collections.Concurrent;

namespace Experiments.Kernels.Polynomials;

/// <summary>All monomials of d variables up to a degree, ordered so that making them is multiplying whole ranges.</summary>
/// <remarks>
/// Degree m is, for every variable i in turn, x_i times those monomials of degree m − 1 whose variables are all ≥ i; and
/// those are the last ones of degree m − 1, from where variable i's own begin. So one step of features, and one of the
/// sweep back through them, is a contiguous loop, with no table of parents. Graded: a lower degree's are a prefix.
/// </remarks>
internal sealed class Monomials
{
    // Tables beyond this are made anew: they belong to trials that last long, and would crowd out the rest.
    private const int LargestCached = 1 << 16;
    private const int CacheLimit = 64;

    private static readonly ConcurrentDictionary<(int D, int Degree), Monomials> Cache = new();

    private Monomials(int d, int degree)
    {
        Degree = degree;
        Count = checked((int)CountOf(d, degree));
        Starts = new int[((degree + 1) * d) + 1];
        Weights = new double[Count];
        byte[] lead = new byte[Count];
        Weights[0] = 1;
        FirstOfDegree = new int[degree + 2];
        FirstOfDegree[1] = 1;
        int at = 1;
        for (int m = 1; m <= degree; m++)
        {
            for (int i = 0; i < d; i++)
            {
                Starts[(m * d) + i] = at;

                // The parents: all of degree 0, or those of degree m − 1 from variable i's own block on.
                int parent = m == 1 ? 0 : Starts[((m - 1) * d) + i];
                int ownEnd = m == 1 ? 0 : i + 1 < d ? Starts[((m - 1) * d) + i + 1] : FirstOfDegree[m];
                for (; parent < FirstOfDegree[m]; parent++, at++)
                {
                    // |β|! / β!: one more factor in all, and one more of x_i.
                    lead[at] = (byte)(parent < ownEnd ? lead[parent] + 1 : 1);
                    Weights[at] = Weights[parent] * m / lead[at];
                }
            }

            FirstOfDegree[m + 1] = at;
        }
    }

    public int Degree { get; }

    /// <summary>K = C(d + degree, degree).</summary>
    public int Count { get; }

    /// <summary>Where degree m begins; at m = Degree + 1, the count.</summary>
    public int[] FirstOfDegree { get; }

    /// <summary>Where the monomials of degree m that begin with x_i stand, at m d + i.</summary>
    public int[] Starts { get; }

    /// <summary>The multinomial |β|! / β! of each.</summary>
    public double[] Weights { get; }

    public static Monomials Of(int d, int degree)
    {
        if (Cache.TryGetValue((d, degree), out Monomials? known))
        {
            return known;
        }

        Monomials made = new(d, degree);
        if (IsKept(made.Count))
        {
            if (Cache.Count >= CacheLimit)
            {
                Cache.Clear();
            }

            Cache.TryAdd((d, degree), made);
        }

        return made;
    }

    /// <summary>Whether a table of so many monomials is kept for the next call.</summary>
    public static bool IsKept(int count) => count <= LargestCached;

    /// <summary>C(d + degree, degree), or <see cref="long.MaxValue"/> if it is beyond that.</summary>
    public static long CountOf(int d, int degree)
    {
        Int128 count = 1;
        for (int m = 1; m <= degree; m++)
        {
            count = count * (d + m) / m;
            if (count > long.MaxValue)
            {
                return long.MaxValue;
            }
        }

        return (long)count;
    }
}
