using System.Numerics;

namespace Experiments.Results.Sweeps.Planning;

/// <summary>Orders in which a search visits a grid, computed from a position alone.</summary>
internal static class Sampling
{
    /// <summary>The cell at a position of a pseudo-random permutation of the grid: no cell comes twice, and none is stored.</summary>
    /// <remarks>Six Feistel rounds over the least even number of bits that holds the grid, walked until the value falls
    /// inside it (Black and Rogaway 2002), so fewer than four steps on average.</remarks>
    public static long Permute(long position, long size, ulong seed)
    {
        int half = Math.Max(1, (65 - BitOperations.LeadingZeroCount((ulong)(size - 1))) / 2);
        ulong mask = (1UL << half) - 1;
        ulong value = (ulong)position;
        do
        {
            ulong left = value >> half;
            ulong right = value & mask;
            for (ulong round = 0; round < 6; round++)
            {
                (left, right) = (right, left ^ (Mix(seed + (round * 0x9E3779B97F4A7C15UL) + Mix(right + round)) & mask));
            }

            value = (left << half) | right;
        }
        while (value >= (ulong)size);
        return (long)value;
    }

    /// <summary>SplitMix64's finaliser (Steele, Lea and Flood 2014).</summary>
    public static ulong Mix(ulong z)
    {
        z += 0x9E3779B97F4A7C15UL;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return z ^ (z >> 31);
    }
}

/// <summary>Sobol's sequence, shifted by the seed, in up to 21 dimensions.</summary>
/// <remarks>Direction numbers: Joe and Kuo 2008, new-joe-kuo-6.21201, the first 21 dimensions.</remarks>
internal sealed class SobolSequence
{
    public const int MostDimensions = 21;
    private const int Bits = 32;

    private static readonly (int Degree, uint Coefficients, uint[] Initial)[] Table =
    [
        (1, 0, [1]), (2, 1, [1, 3]), (3, 1, [1, 3, 1]), (3, 2, [1, 1, 1]), (4, 1, [1, 1, 3, 3]), (4, 4, [1, 3, 5, 13]),
        (5, 2, [1, 1, 5, 5, 17]), (5, 4, [1, 1, 5, 5, 5]), (5, 7, [1, 1, 7, 11, 19]), (5, 11, [1, 1, 5, 1, 1]),
        (5, 13, [1, 1, 1, 3, 11]), (5, 14, [1, 3, 5, 5, 31]), (6, 1, [1, 3, 3, 9, 7, 49]), (6, 13, [1, 1, 1, 15, 21, 21]),
        (6, 16, [1, 3, 1, 13, 27, 49]), (6, 19, [1, 1, 1, 15, 7, 5]), (6, 22, [1, 3, 1, 15, 13, 25]),
        (6, 25, [1, 1, 5, 5, 19, 61]), (7, 1, [1, 3, 7, 11, 23, 15, 103]), (7, 4, [1, 3, 7, 13, 13, 15, 69]),
    ];

    private readonly uint[][] _directions;
    private readonly uint[] _shifts;

    public SobolSequence(int dimensions, ulong seed)
    {
        _directions = [.. Enumerable.Range(0, dimensions).Select(Directions)];
        _shifts = [.. Enumerable.Range(0, dimensions).Select(d => (uint)(Sampling.Mix(seed + (ulong)d) >> 32))];
    }

    /// <summary>A coordinate in [0, 1) of a point.</summary>
    public double Coordinate(long point, int dimension)
    {
        ulong gray = (ulong)point ^ ((ulong)point >> 1);
        uint value = _shifts[dimension];
        for (int bit = 0; bit < Bits && gray >> bit != 0; bit++)
        {
            if (((gray >> bit) & 1) != 0)
            {
                value ^= _directions[dimension][bit];
            }
        }

        return value * (1.0 / (1UL << Bits));
    }

    private static uint[] Directions(int dimension)
    {
        uint[] v = new uint[Bits];
        if (dimension == 0)
        {
            for (int i = 0; i < Bits; i++)
            {
                v[i] = 1u << (31 - i);
            }

            return v;
        }

        (int degree, uint coefficients, uint[] initial) = Table[dimension - 1];
        for (int i = 0; i < Bits; i++)
        {
            if (i < degree)
            {
                v[i] = initial[i] << (31 - i);
                continue;
            }

            v[i] = v[i - degree] ^ (v[i - degree] >> degree);
            for (int k = 1; k < degree; k++)
            {
                v[i] ^= ((coefficients >> (degree - 1 - k)) & 1) * v[i - k];
            }
        }

        return v;
    }
}
