using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>Three products between a few rows and a panel, with features (or keys) in the vector's lanes.</summary>
/// <remarks>
/// A panel is [width][columns], each of its rows contiguous and padded to <see cref="Padded{T}"/>. All the arithmetic of the
/// rivals that is not O(n) is one of these three: so none of them is slow for want of care that another one got. The order
/// of every sum is fixed by the shapes.
/// </remarks>
internal static unsafe class Panels
{
    /// <summary>Rows that <see cref="Accumulate"/> takes at once; the other two take half as many.</summary>
    public const int Rows = 8;

    private const int Half = 4;

    // Sums of type T are this long at most before double takes over: a lane then adds 32 to 256 numbers.
    private const int Short = 512;

    /// <summary>Columns padded to two vectors.</summary>
    public static int Padded<T>(int columns)
        where T : unmanaged
    {
        int unit = 2 * Vector<T>.Count;
        return checked((columns + unit - 1) / unit * unit);
    }

    /// <summary>rows[r][j] = Σ_k coefficients[r][k] panel[k][j], for eight rows.</summary>
    public static void Expand<T>(
        T* coefficients, int coefficientStride, int width, T* panel, long panelStride, int columns, T* rows, long rowStride)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ExpandHalf(coefficients, coefficientStride, width, panel, panelStride, columns, rows, rowStride);
        ExpandHalf(
            coefficients + (Half * coefficientStride), coefficientStride, width, panel, panelStride, columns,
            rows + (Half * rowStride), rowStride);
    }

    /// <summary>sums[r][k] = Σ_j rows[r][j] panel[k][j], for eight rows.</summary>
    public static void Contract<T>(
        T* rows, long rowStride, int columns, T* panel, long panelStride, int width, double* sums, int sumStride)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int r = 0; r < Rows; r++)
        {
            new Span<double>(sums + (r * sumStride), width).Clear();
        }

        for (int first = 0; first < columns; first += Short)
        {
            int length = Math.Min(Short, columns - first);
            ContractHalf(rows + first, rowStride, length, panel + first, panelStride, width, sums, sumStride);
            ContractHalf(
                rows + (Half * rowStride) + first, rowStride, length, panel + first, panelStride, width,
                sums + (Half * sumStride), sumStride);
        }
    }

    /// <summary>panel[k][j] += Σ_r coefficients[r][k] rows[r][j], for eight rows.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Accumulate<T>(
        T* coefficients, int coefficientStride, int width, T* rows, long rowStride, int columns, T* panel, long panelStride)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        T* p1 = rows + rowStride, p2 = p1 + rowStride, p3 = p2 + rowStride;
        T* p4 = p3 + rowStride, p5 = p4 + rowStride, p6 = p5 + rowStride, p7 = p6 + rowStride;
        for (int k = 0; k < width; k++)
        {
            T* at = coefficients + k;
            Vector<T> y0 = Vector.Create(at[0]), y1 = Vector.Create(at[coefficientStride]);
            Vector<T> y2 = Vector.Create(at[2 * coefficientStride]), y3 = Vector.Create(at[3 * coefficientStride]);
            Vector<T> y4 = Vector.Create(at[4 * coefficientStride]), y5 = Vector.Create(at[5 * coefficientStride]);
            Vector<T> y6 = Vector.Create(at[6 * coefficientStride]), y7 = Vector.Create(at[7 * coefficientStride]);
            T* into = panel + (k * panelStride);
            for (int j = 0; j < columns; j += Vector<T>.Count)
            {
                Vector<T> even = y0 * Vector.Load(rows + j), odd = y1 * Vector.Load(p1 + j);
                even = Lanes.MulAdd(y2, Vector.Load(p2 + j), even);
                odd = Lanes.MulAdd(y3, Vector.Load(p3 + j), odd);
                even = Lanes.MulAdd(y4, Vector.Load(p4 + j), even);
                odd = Lanes.MulAdd(y5, Vector.Load(p5 + j), odd);
                even = Lanes.MulAdd(y6, Vector.Load(p6 + j), even);
                odd = Lanes.MulAdd(y7, Vector.Load(p7 + j), odd);
                Vector.Store(Vector.Load(into + j) + (even + odd), into + j);
            }
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void ExpandHalf<T>(
        T* coefficients, int coefficientStride, int width, T* panel, long panelStride, int columns, T* rows, long rowStride)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        T* c1 = coefficients + coefficientStride, c2 = c1 + coefficientStride, c3 = c2 + coefficientStride;
        int v = Vector<T>.Count;
        for (int j = 0; j < columns; j += 2 * v)
        {
            Vector<T> s00 = Vector<T>.Zero, s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
            T* at = panel + j;
            for (int k = 0; k < width; k++)
            {
                Vector<T> x0 = Vector.Load(at), x1 = Vector.Load(at + v);
                Vector<T> y = Vector.Create(coefficients[k]);
                s00 = Lanes.MulAdd(y, x0, s00);
                s01 = Lanes.MulAdd(y, x1, s01);
                y = Vector.Create(c1[k]);
                s10 = Lanes.MulAdd(y, x0, s10);
                s11 = Lanes.MulAdd(y, x1, s11);
                y = Vector.Create(c2[k]);
                s20 = Lanes.MulAdd(y, x0, s20);
                s21 = Lanes.MulAdd(y, x1, s21);
                y = Vector.Create(c3[k]);
                s30 = Lanes.MulAdd(y, x0, s30);
                s31 = Lanes.MulAdd(y, x1, s31);
                at += panelStride;
            }

            T* to = rows + j;
            Vector.Store(s00, to);
            Vector.Store(s01, to + v);
            to += rowStride;
            Vector.Store(s10, to);
            Vector.Store(s11, to + v);
            to += rowStride;
            Vector.Store(s20, to);
            Vector.Store(s21, to + v);
            to += rowStride;
            Vector.Store(s30, to);
            Vector.Store(s31, to + v);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void ContractHalf<T>(
        T* rows, long rowStride, int columns, T* panel, long panelStride, int width, double* sums, int sumStride)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        T* r1 = rows + rowStride, r2 = r1 + rowStride, r3 = r2 + rowStride;
        double* u1 = sums + sumStride, u2 = u1 + sumStride, u3 = u2 + sumStride;
        for (int k = 0; k < width; k += 2)
        {
            // An odd last row of the panel is its own partner, and counted once.
            bool pair = k + 1 < width;
            T* x = panel + (k * panelStride), z = pair ? x + panelStride : x;
            Vector<T> s00 = Vector<T>.Zero, s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
            for (int j = 0; j < columns; j += Vector<T>.Count)
            {
                Vector<T> x0 = Vector.Load(x + j), x1 = Vector.Load(z + j);
                Vector<T> y = Vector.Load(rows + j);
                s00 = Lanes.MulAdd(y, x0, s00);
                s01 = Lanes.MulAdd(y, x1, s01);
                y = Vector.Load(r1 + j);
                s10 = Lanes.MulAdd(y, x0, s10);
                s11 = Lanes.MulAdd(y, x1, s11);
                y = Vector.Load(r2 + j);
                s20 = Lanes.MulAdd(y, x0, s20);
                s21 = Lanes.MulAdd(y, x1, s21);
                y = Vector.Load(r3 + j);
                s30 = Lanes.MulAdd(y, x0, s30);
                s31 = Lanes.MulAdd(y, x1, s31);
            }

            sums[k] += double.CreateTruncating(Vector.Sum(s00));
            u1[k] += double.CreateTruncating(Vector.Sum(s10));
            u2[k] += double.CreateTruncating(Vector.Sum(s20));
            u3[k] += double.CreateTruncating(Vector.Sum(s30));
            if (pair)
            {
                sums[k + 1] += double.CreateTruncating(Vector.Sum(s01));
                u1[k + 1] += double.CreateTruncating(Vector.Sum(s11));
                u2[k + 1] += double.CreateTruncating(Vector.Sum(s21));
                u3[k + 1] += double.CreateTruncating(Vector.Sum(s31));
            }
        }
    }
}
