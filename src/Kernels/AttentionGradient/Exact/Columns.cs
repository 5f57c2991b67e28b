using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>Between matrices with a row after another and blocks with their rows side by side.</summary>
/// <remarks>All of it is O(n d), and felt all the same: at n = 256 as much as a quarter of the time, were it written plainly.</remarks>
internal static unsafe class Columns<V, T>
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static int Width => Tiles<V, T>.Width;

    /// <summary>columns[k][v] = rows[v][k] for <paramref name="count"/> rows of d, and zeros for the lanes beyond them.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void FromRows(T* rows, int count, int d, T* columns)
    {
        int w = Width;
        if (count < w)
        {
            new Span<T>(columns, d * w).Clear();
        }

        int v = 0;
        for (; v <= count - 4; v += 4)
        {
            T* r0 = rows + ((long)v * d), r1 = r0 + d, r2 = r1 + d, r3 = r2 + d, to = columns + v;
            for (int k = 0; k < d; k++)
            {
                to[0] = r0[k];
                to[1] = r1[k];
                to[2] = r2[k];
                to[3] = r3[k];
                to += w;
            }
        }

        for (; v < count; v++)
        {
            T* row = rows + ((long)v * d), to = columns + v;
            for (int k = 0; k < d; k++)
            {
                *to = row[k];
                to += w;
            }
        }
    }

    /// <summary>rows[v][k] = columns[k][v] for <paramref name="count"/> rows and k below <paramref name="d"/>, and zeros up to
    /// <paramref name="stride"/>.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void ToRows(T* columns, int count, int d, int stride, T* rows)
    {
        int w = Width, k = 0;
        for (; k <= d - 4; k += 4)
        {
            T* c0 = columns + ((long)k * w), c1 = c0 + w, c2 = c1 + w, c3 = c2 + w, to = rows + k;
            for (int v = 0; v < count; v++)
            {
                to[0] = c0[v];
                to[1] = c1[v];
                to[2] = c2[v];
                to[3] = c3[v];
                to += stride;
            }
        }

        for (; k < stride; k++)
        {
            T* from = columns + ((long)k * w), to = rows + k;
            for (int v = 0; v < count; v++)
            {
                *to = k < d ? from[v] : T.Zero;
                to += stride;
            }
        }
    }

    /// <summary>The same rows, with zeros between d and <paramref name="stride"/>.</summary>
    public static void Pad(T* rows, int n, int d, int stride, T* to)
    {
        for (int i = 0; i < n; i++)
        {
            new ReadOnlySpan<T>(rows + ((long)i * d), d).CopyTo(new(to + ((long)i * stride), d));
            new Span<T>(to + ((long)i * stride) + d, stride - d).Clear();
        }
    }

    /// <summary>to[i] += factor from[i], in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddTo(T* from, int count, double factor, double* to)
    {
        int i = 0;
        for (; i <= count - V.Count; i += V.Count)
        {
            V.Load(from + i).AddTo(to + i, factor);
        }

        for (; i < count; i++)
        {
            to[i] += factor * double.CreateTruncating(from[i]);
        }
    }

    /// <summary>About the mean of n rows of d, taken from the first row, so that identical rows have exactly themselves.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Mean(T* rows, int n, int d, T* mean)
    {
        T over = T.One / T.CreateTruncating(n);
        int k = 0;
        for (; k <= d - V.Count; k += V.Count)
        {
            V first = V.Load(rows + k), sum = V.Zero;
            T* row = rows + k;
            for (int i = 0; i < n; i++)
            {
                sum += V.Load(row) - first;
                row += d;
            }

            (first + (sum * V.Broadcast(over))).Store(mean + k);
        }

        for (; k < d; k++)
        {
            T sum = T.Zero;
            T* row = rows + k;
            for (int i = 0; i < n; i++)
            {
                sum += *row - rows[k];
                row += d;
            }

            mean[k] = rows[k] + (sum * over);
        }
    }

    /// <summary>A median of n rows of d, column by column: of every so manyth row where there are many.</summary>
    public static void Median(T* rows, int n, int d, T* median)
    {
        const int Most = 1024;
        int step = (n + Most - 1) / Most;
        T[] sample = new T[(n + step - 1) / step];
        for (int k = 0; k < d; k++)
        {
            for (int i = 0; i < sample.Length; i++)
            {
                sample[i] = rows[((long)i * step * d) + k];
            }

            Array.Sort(sample);
            median[k] = sample[sample.Length / 2];
        }
    }

    /// <summary>to[i] = rows[i] − shift, with rows of d, padded with zeros to <paramref name="stride"/>; returns the largest sum of
    /// squares of a row, or NaN.</summary>
    /// <param name="norms">Where each row's sum of squares goes; null for nowhere.</param>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static T Shift(T* rows, int n, int d, T* shift, int stride, T* to, T* norms)
    {
        T largest = T.Zero;
        for (int i = 0; i < n; i++)
        {
            V squares = V.Zero;
            int k = 0;
            for (; k <= d - V.Count; k += V.Count)
            {
                V value = V.Load(rows + k) - V.Load(shift + k);
                squares = V.MulAdd(value, value, squares);
                value.Store(to + k);
            }

            T square = V.Sum(squares);
            for (; k < d; k++)
            {
                T value = rows[k] - shift[k];
                square += value * value;
                to[k] = value;
            }

            for (; k < stride; k++)
            {
                to[k] = T.Zero;
            }

            if (norms is not null)
            {
                norms[i] = square;
            }

            largest = T.Max(largest, square);
            rows += d;
            to += stride;
        }

        return largest;
    }
}
