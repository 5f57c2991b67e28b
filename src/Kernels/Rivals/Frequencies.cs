using System.Collections.Concurrent;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Rivals;

/// <summary>Random vectors ω ~ N(0, I_d), the same bits for a seed on every machine.</summary>
/// <remarks>
/// Orthogonal: in blocks of d, a Gaussian block made orthogonal row after row (Gram and Schmidt, twice, so that rounding leaves
/// nothing) and each row given the length of an independent Gaussian vector, so that every single ω keeps its law.
/// Source: Choromanski and others, "Rethinking attention with Performers", ICLR 2021, section 3.2; Yu and others,
/// "Orthogonal random features", NIPS 2016.
/// </remarks>
internal static class Frequencies
{
    private const uint DirectionStream = 0x52460001, LengthStream = 0x52460002;

    // A call draws them all anew otherwise, which at a few thousand tokens is a tenth of its time. In numbers kept.
    private const long CacheLimit = 1 << 22;

    private static readonly ConcurrentDictionary<(int Count, int D, bool Orthogonal, int Seed), double[]> Drawn = new();
    private static long _kept;

    /// <summary>ω, [count][d], row-major.</summary>
    public static double[] Of(int count, int d, bool orthogonal, int seed)
    {
        (int, int, bool, int) key = (count, d, orthogonal, seed);
        if (Drawn.TryGetValue(key, out double[]? known))
        {
            return known;
        }

        double[] drawn = Draw(count, d, orthogonal, seed);
        if (drawn.Length > CacheLimit)
        {
            return drawn;
        }

        if (Interlocked.Add(ref _kept, drawn.Length) > CacheLimit)
        {
            Drawn.Clear();
            Interlocked.Exchange(ref _kept, drawn.Length);
        }

        return Drawn.GetOrAdd(key, drawn);
    }

    private static double[] Draw(int count, int d, bool orthogonal, int seed)
    {
        double[] rows = new double[checked(count * d)];
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i] = Gaussian(seed, DirectionStream, i);
        }

        for (int row = 0; orthogonal && row < count; row++)
        {
            Span<double> x = rows.AsSpan(row * d, d);
            for (int pass = 0; pass < 2; pass++)
            {
                for (int other = row / d * d; other < row; other++)
                {
                    ReadOnlySpan<double> y = rows.AsSpan(other * d, d);
                    double along = Dot(x, y) / Dot(y, y);
                    for (int k = 0; k < d; k++)
                    {
                        x[k] -= along * y[k];
                    }
                }
            }

            // The lengths of the rows before do not matter to the directions after.
            double length = 0;
            for (int k = 0; k < d; k++)
            {
                double g = Gaussian(seed, LengthStream, ((long)row * d) + k);
                length += g * g;
            }

            double factor = Math.Sqrt(length / Dot(x, x));
            for (int k = 0; k < d; k++)
            {
                x[k] *= factor;
            }
        }

        return rows;
    }

    private static double Gaussian(int seed, uint stream, long index)
    {
        // The middle of one of 2^52 cells: never 0, never 1.
        double p = ((Philox.Bits((ulong)seed, stream, (ulong)index) >> 12) + 0.5) * (1.0 / (1L << 52));
        return Normal.Quantile(p);
    }

    private static double Dot(ReadOnlySpan<double> x, ReadOnlySpan<double> y)
    {
        double sum = 0;
        for (int k = 0; k < x.Length; k++)
        {
            sum += x[k] * y[k];
        }

        return sum;
    }
}
