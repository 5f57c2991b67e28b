using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>How far rounding may have carried the gradients, told from what each row's residual c = F − E kept of the numbers it is the difference
/// of.</summary>
/// <remarks>
/// F carries a few ulp of the part of it that is not the same in every row, its size, so c is off by that size over c, in its own ulps, and so are
/// the row's dQ, which is linear in c, and its share of dX = Σ a1 dQ / divisor. Those errors have random signs: their squares add up. The
/// square root is compared with the largest entry of dX: where targets are nearly met it is large beside it, and also where the shares of rows
/// cancel. dQ itself is compared row by row, asked for or not, so that dX has the same bits either way. In dY = Σ (f a3) c and dV = Σ f c errors
/// need not have signs of their own, as rows with like weights are rounded alike.
/// </remarks>
internal struct Doubt
{
    // How many times the largest entry of dX the estimate may be. Measured, an entry of dX is off by up to 4 ulp times the estimate at n = 30
    // and the bar is at 340 to 360 of them. On random instances the estimate is some 2 times the largest entry, whatever n and d.
    private const double Bearable = 24;

    // Of few rows one whose c lies across what it is multiplied by is off by far more than its share, and no other makes up for it: of 70,000
    // instances with nearly met targets, n ≤ 40, 37 were over the bar with 24, with this none; from n = 60 on none was. Twice the digits of few rows cost little.
    private const double BearableOfFew = 6, Few = 8;

    // The same of dY and dV: off by up to 4 ulp times their estimates, which on random instances are up to 30 times the largest entry.
    private const double BeyondDX = 1.5;

    private double _squares, _ratios, _unmet, _residuals, _sizes, _size, _mixed, _query, _lostQuery;
    private long _rows, _lost;

    /// <param name="residual">The row's largest |c|.</param>
    /// <param name="size">The largest |F| of it, of the part that c was rounded in.</param>
    /// <param name="query">The largest |dQ|, times the divisor.</param>
    /// <param name="a1">The largest |a1|.</param>
    /// <param name="mixed">The largest |f a3|.</param>
    public void Add(double residual, double size, double query, double a1, double mixed)
    {
        _residuals += residual * residual;
        _sizes += size * size;
        _size += size;
        _mixed += size * mixed;
        _rows++;
        if (residual > 0)
        {
            double ratio = query / residual, share = ratio * Math.Max(size, residual) * a1;
            _squares += share * share;
            _ratios += ratio * ratio;
            _query = Math.Max(_query, query);
            _lostQuery = Math.Max(_lostQuery, ratio * size);
        }
        else
        {
            _unmet += size * size * a1 * a1;
            _lost++;
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
            sum._residuals += part._residuals;
            sum._sizes += part._sizes;
            sum._size += part._size;
            sum._mixed += part._mixed;
            sum._query = Math.Max(sum._query, part._query);
            sum._lostQuery = Math.Max(sum._lostQuery, part._lostQuery);
            sum._rows += part._rows;
            sum._lost += part._lost;
        }

        return sum;
    }

    /// <param name="spare">1, or how many more digits the numbers have than the result is rounded to, as a factor.</param>
    public readonly bool IsLarge<T>(GradientOutput<T> output, double divisor, double spare)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double bearable = spare * Math.Clamp(_rows / Few, BearableOfFew, Bearable);

        // A row whose residual was lost whole says nothing of its own dQ: it is taken to be like the others.
        double lost = _unmet == 0 ? 0 : _rows == _lost ? double.PositiveInfinity : _unmet * _ratios / (_rows - _lost);

        // False for NaN, which is refused later.
        return Math.Sqrt(_squares + lost) / divisor > bearable * Largest(output.DX)
            || Math.Sqrt(_sizes) > bearable * Math.Sqrt(_residuals)
            || _mixed > bearable * BeyondDX * Largest(output.DY)
            || _lostQuery > bearable * _query
            || (output.DV is T[] dV && _size / _rows > bearable * BeyondDX * Largest(dV));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double Largest<T>(T[] values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Vector<T> most = Vector<T>.Zero;
        int i = 0;
        for (; i <= values.Length - Vector<T>.Count; i += Vector<T>.Count)
        {
            most = Vector.MaxNative(most, Vector.Abs(new Vector<T>(values, i)));
        }

        T largest = T.Zero;
        for (int lane = 0; lane < Vector<T>.Count; lane++)
        {
            largest = T.Max(largest, most[lane]);
        }

        for (; i < values.Length; i++)
        {
            largest = T.Max(largest, T.Abs(values[i]));
        }

        return double.CreateTruncating(largest);
    }
}
