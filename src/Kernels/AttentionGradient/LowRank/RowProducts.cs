using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>A few rows of A1 X, A3 Y or centred keys at a time, with more digits than they are rounded to.</summary>
/// <remarks>Rows in double are padded with zeros to whole vectors, <see cref="Padded"/>(d) long.</remarks>
internal static unsafe class RowProducts
{
    public static int Padded(int d) => (d + Vector<double>.Count - 1) / Vector<double>.Count * Vector<double>.Count;

    /// <summary>A (d, d) matrix in double.</summary>
    public static AlignedBuffer<double> Widen<T>(T[] matrix, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AlignedBuffer<double> wide = AlignedBuffer<double>.Zeroed((long)d * Padded(d));
        fixed (T* rows = matrix)
        {
            Widen(rows, d, d, wide.Start);
        }

        return wide;
    }

    /// <summary>Rows in double; what <paramref name="wide"/> holds in its padding stays.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Widen<T>(T* rows, int count, int d, double* wide)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int width = Padded(d);
        for (int r = 0; r < count; r++)
        {
            int k = 0;
            if (typeof(T) == typeof(float))
            {
                for (; k <= d - Vector<float>.Count; k += Vector<float>.Count)
                {
                    Vector.Widen(Vector.Load((float*)rows + k), out Vector<double> low, out Vector<double> high);
                    Vector.Store(low, wide + k);
                    Vector.Store(high, wide + k + Vector<double>.Count);
                }
            }

            for (; k < d; k++)
            {
                wide[k] = double.CreateTruncating(rows[k]);
            }

            rows += d;
            wide += width;
        }
    }

    /// <summary>Rows rounded to T, each <paramref name="stride"/> after the other.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Round<T>(double* wide, int count, int d, T* rows, nint stride)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int width = Padded(d);
        for (int r = 0; r < count; r++)
        {
            int k = 0;
            if (typeof(T) == typeof(float))
            {
                for (; k <= d - Vector<float>.Count; k += Vector<float>.Count)
                {
                    Vector<float> narrow = Vector.Narrow(Vector.Load(wide + k), Vector.Load(wide + k + Vector<double>.Count));
                    Vector.Store(narrow, (float*)rows + k);
                }
            }

            for (; k < d; k++)
            {
                rows[k] = T.CreateTruncating(wide[k]);
            }

            rows += stride;
            wide += width;
        }
    }

    /// <summary>sum += every row.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Sum(double* rows, int count, int d, double* sum)
    {
        int width = Padded(d);
        for (int c = 0; c < width; c += Vector<double>.Count)
        {
            Vector<double> total = Vector.Load(sum + c);
            for (int r = 0; r < count; r++)
            {
                total += Vector.Load(rows + ((long)r * width) + c);
            }

            Vector.Store(total, sum + c);
        }
    }

    /// <summary>Adds every row to the first row of a table, and its products with itself to the d rows that follow.</summary>
    public static void Moments(double* rows, int count, int d, double* table)
    {
        int width = Padded(d);
        Sum(rows, count, d, table);
        for (int r = 0; r < count; r++, rows += width)
        {
            for (int k = 0; k < d; k++)
            {
                double* at = table + ((k + 1L) * width);
                for (int c = 0; c < width; c += Vector<double>.Count)
                {
                    Vector.Store(
                        Vector.MultiplyAddEstimate(Vector.Create(rows[k]), Vector.Load(rows + c), Vector.Load(at + c)), at + c);
                }
            }
        }
    }

    /// <summary>Keys in place: (key − mean) / divisor.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Centre(double* keys, int rows, int d, double* mean, double divisor)
    {
        int width = Padded(d);
        Vector<double> divisors = Vector.Create(divisor);
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < width; c += Vector<double>.Count)
            {
                Vector.Store((Vector.Load(keys + c) - Vector.Load(mean + c)) / divisors, keys + c);
            }

            keys += width;
        }
    }

    /// <summary>product = left right, (rows, d) by (d, d), of numbers that float holds: the products are exact in double, and the
    /// sum has digits to spare.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void MultiplySingle(double* left, int rows, int d, double* right, double* product)
    {
        // Four rows share what is loaded of the right matrix; those that a last tile lacks are the last one's again.
        int width = Padded(d);
        for (int r = 0; r < rows; r += 4)
        {
            nint one = r + 1 < rows ? width : 0, two = r + 2 < rows ? one + width : one, three = r + 3 < rows ? two + width : two;
            for (int c = 0; c < width; c += Vector<double>.Count)
            {
                Vector<double> s0 = Vector<double>.Zero, s1 = s0, s2 = s0, s3 = s0;
                double* y = right + c;
                for (int k = 0; k < d; k++)
                {
                    Vector<double> column = Vector.Load(y);
                    s0 = Vector.MultiplyAddEstimate(Vector.Create(left[k]), column, s0);
                    s1 = Vector.MultiplyAddEstimate(Vector.Create(left[one + k]), column, s1);
                    s2 = Vector.MultiplyAddEstimate(Vector.Create(left[two + k]), column, s2);
                    s3 = Vector.MultiplyAddEstimate(Vector.Create(left[three + k]), column, s3);
                    y += width;
                }

                Vector.Store(s0, product + c);
                Vector.Store(s1, product + one + c);
                Vector.Store(s2, product + two + c);
                Vector.Store(s3, product + three + c);
            }

            left += 4 * width;
            product += 4 * width;
        }
    }

    /// <summary>product = left right, (rows, d) by (d, d), of any numbers.</summary>
    /// <remarks>Each product and sum keeps its rounding error (Ogita, Rump and Oishi 2005, Dot2) until the last addition.</remarks>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void MultiplyDouble(double* left, int rows, int d, double* right, double* product)
    {
        int width = Padded(d);
        for (int i = 0; i < rows; i++)
        {
            for (int c = 0; c < width; c += Vector<double>.Count)
            {
                Vector<double> sum = Vector<double>.Zero, error = sum;
                for (int k = 0; k < d; k++)
                {
                    Vector<double> x = Vector.Create(left[k]), y = Vector.Load(right + ((long)k * width) + c);
                    Vector<double> p = x * y;
                    error += ProductError.Of(x, y, p);
                    Vector<double> s = sum + p;
                    Vector<double> t = s - sum;
                    error += (sum - (s - t)) + (p - t);
                    sum = s;
                }

                Vector.Store(sum + error, product + c);
            }

            left += width;
            product += width;
        }
    }

    /// <summary>product = left right, (rows, d) by (d, d), of numbers that T holds.</summary>
    public static void Multiply<T>(double* left, int rows, int d, double* right, double* product)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (typeof(T) == typeof(float))
        {
            MultiplySingle(left, rows, d, right, product);
        }
        else
        {
            MultiplyDouble(left, rows, d, right, product);
        }
    }
}
