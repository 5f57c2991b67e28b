using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>How far rounding may have carried dX, told from what each row's residual c = F − E kept of the numbers it is the difference of.</summary>
/// <remarks>
/// F carries a few ulp of the part of it that is not the same in every row, so c is off by that part over c, in its own ulps, and so are the row's
/// dQ, which is linear in c, and its share of dX = Σ a1 dQ / divisor. Rows' errors have random signs: their squares add up. The square root is
/// compared with the largest entry of dX: where targets are nearly met it is large beside it, and also where the shares of rows cancel.
/// </remarks>
internal struct Doubt
{
    /// <summary>How many times the largest entry of dX the estimate may be, where the result is to have the digits of the problem's type.</summary>
    // Measured, an entry of dX is off by up to 4 ulp times the estimate at n = 30 and the bar is at 340 to 360 of them. On random
    // instances the estimate is some 2 times the largest entry, whatever n and d.
    public const double Bearable = 24;

    private double _squares, _ratios, _unmet;
    private long _rows;

    /// <param name="residual">The row's largest |c|.</param>
    /// <param name="size">The largest |F| of it, of the part that c was rounded in.</param>
    /// <param name="query">The largest |dQ|, times the divisor.</param>
    /// <param name="a1">The largest |a1|.</param>
    public void Add(double residual, double size, double query, double a1)
    {
        if (residual > 0)
        {
            double ratio = query / residual, share = ratio * Math.Max(size, residual) * a1;
            _squares += share * share;
            _ratios += ratio * ratio;
            _rows++;
        }
        else
        {
            _unmet += size * size * a1 * a1;
        }
    }

    public static Doubt Sum(params ReadOnlySpan<Doubt> parts)
    {
        Doubt sum = default;
        foreach (Doubt part in parts)
        {
            sum._squares += part._squares;
            sum._ratios += part._ratios;
            sum._unmet += part._unmet;
            sum._rows += part._rows;
        }

        return sum;
    }

    /// <param name="dX">As the rows' shares add up to, divided.</param>
    /// <param name="bearable"><see cref="Bearable"/>, or more of them where the result is rounded to fewer digits.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly bool IsLarge(ReadOnlySpan<double> dX, double divisor, double bearable)
    {
        // A row whose residual was lost whole says nothing of its own dQ: it is taken to be like the others.
        double lost = _unmet == 0 ? 0 : _rows == 0 ? double.PositiveInfinity : _unmet * _ratios / _rows;
        Vector<double> most = Vector<double>.Zero;
        int i = 0;
        for (; i <= dX.Length - Vector<double>.Count; i += Vector<double>.Count)
        {
            most = Vector.MaxNative(most, Vector.Abs(new Vector<double>(dX[i..])));
        }

        double largest = 0;
        for (int lane = 0; lane < Vector<double>.Count; lane++)
        {
            largest = Math.Max(largest, most[lane]);
        }

        for (; i < dX.Length; i++)
        {
            largest = Math.Max(largest, Math.Abs(dX[i]));
        }

        // False for NaN, which is refused later.
        return Math.Sqrt(_squares + lost) / divisor > bearable * largest;
    }
}
