using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>The largest entry of every column and the longest row, of |rows|: what the radius is bounded by.</summary>
internal static unsafe class Extent
{
    /// <summary>A table's length: the columns, padded, and the square of the longest row.</summary>
    public static int Length(int d) => RowProducts.Padded(d) + 1;

    /// <summary>Widens a table by more rows. If an entry is NaN, so is the longest row.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Widen(double* extent, double* rows, int count, int d)
    {
        int width = RowProducts.Padded(d);
        double longest = extent[width];
        for (int i = 0; i < count; i++)
        {
            Vector<double> square = Vector<double>.Zero;
            for (int c = 0; c < width; c += Vector<double>.Count)
            {
                Vector<double> entry = Vector.Load(rows + c);
                square += entry * entry;
                Vector.Store(Vector.MaxNative(Vector.Load(extent + c), Vector.Abs(entry)), extent + c);
            }

            longest = Math.Max(longest, Vector.Sum(square));
            rows += width;
        }

        extent[width] = longest;
    }

    /// <summary>Widens a table by another.</summary>
    public static void Join(double* extent, double* other, int d)
    {
        for (int c = 0; c < Length(d); c++)
        {
            extent[c] = Math.Max(extent[c], other[c]);
        }
    }

    /// <summary>The least of two bounds on every |q·κ|: Σ_c max|q_c| max|κ_c|, and max‖q‖ max‖κ‖.</summary>
    public static double Bound(double* queries, double* keys, int d)
    {
        double byColumns = 0;
        for (int c = 0; c < d; c++)
        {
            byColumns += queries[c] * keys[c];
        }

        int width = RowProducts.Padded(d);
        return Math.Min(byColumns, Math.Sqrt(queries[width]) * Math.Sqrt(keys[width]));
    }
}
