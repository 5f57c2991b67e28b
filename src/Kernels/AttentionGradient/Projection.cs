using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>The two small products Q = A1 X and h = A3 Y, with more digits than they are rounded to.</summary>
internal static class Projection
{
    /// <summary>Columns padded to whole vectors of double, the leading dimension of what the products here write.</summary>
    public static int Padded(int d) => (d + Vector<double>.Count - 1) / Vector<double>.Count * Vector<double>.Count;

    /// <summary>product = left right, (n, d) by (d, d), as high + low; rows are <see cref="Padded"/>(d) long.</summary>
    /// <remarks>
    /// For float the products are exact in double and a plain double sum has digits to spare: low is 0. For double each
    /// product and sum keeps its rounding error (Ogita, Rump and Oishi 2005, Dot2), as if computed in twice the precision:
    /// logits in the thousands, and targets E that equal a row of h, each lose a result that was rounded here.
    /// </remarks>
    public static unsafe void Multiply<T>(
        T[] left, T[] right, int firstRow, int rows, int d, double[] high, double[] low)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int width = Padded(d);
        double[] wide = Widened(right, d);
        fixed (double* w = wide, hi = high, lo = low)
        fixed (T* a = left)
        {
            for (long i = firstRow; i < firstRow + rows; i++)
            {
                Row(a + (i * d), w, d, hi + (i * width), lo + (i * width));
            }
        }

        ScratchMemory.Return(wide);
    }

    /// <summary>The same for chosen rows of left: row i of the product is that of row <paramref name="rows"/>[i].</summary>
    public static unsafe void Multiply<T>(T[] left, T[] right, int[] rows, int d, double[] high, double[] low)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int width = Padded(d);
        double[] wide = Widened(right, d);
        fixed (double* w = wide, hi = high, lo = low)
        fixed (T* a = left)
        {
            for (long i = 0; i < rows.Length; i++)
            {
                Row(a + ((long)rows[i] * d), w, d, hi + (i * width), lo + (i * width));
            }
        }

        ScratchMemory.Return(wide);
    }

    private static double[] Widened<T>(T[] right, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int width = Padded(d);
        double[] wide = ScratchMemory.Rent<double>(d * width);
        for (int k = 0; k < d; k++)
        {
            for (int c = 0; c < width; c++)
            {
                wide[(k * width) + c] = c < d ? double.CreateTruncating(right[(k * d) + c]) : 0;
            }
        }

        return wide;
    }

    private static unsafe void Row<T>(T* a, double* wide, int d, double* high, double* low)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int width = Padded(d);
        for (int c = 0; c < width; c += Vector<double>.Count)
        {
            Vector<double> sum = Vector<double>.Zero, error = Vector<double>.Zero;
            for (int k = 0; k < d; k++)
            {
                Vector<double> x = Vector.Create(double.CreateTruncating(a[k]));
                Vector<double> y = Vector.Load(wide + (k * width) + c);
                Vector<double> p = x * y;
                if (typeof(T) == typeof(float))
                {
                    sum += p;
                    continue;
                }

                error += ProductError.Of(x, y, p);
                Vector<double> s = sum + p;
                Vector<double> t = s - sum;
                error += (sum - (s - t)) + (p - t);
                sum = s;
            }

            Vector<double> total = sum + error;
            Vector.Store(total, high + c);
            Vector.Store((sum - total) + error, low + c);
        }
    }
}
