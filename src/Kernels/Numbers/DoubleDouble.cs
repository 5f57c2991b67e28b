using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.Numbers;

/// <summary>An unevaluated sum of two doubles, about 32 decimal digits: enough to judge float64 by.</summary>
/// <remarks>
/// Dekker (1971) and Knuth's error-free sums, with products split by a fused multiply-add. The fused operation is exact on
/// every machine, in hardware or in software, so the bits are the same everywhere. Infinities and NaN come out as NaN.
/// </remarks>
internal readonly struct DoubleDouble(double high, double low)
    : IAdditionOperators<DoubleDouble, DoubleDouble, DoubleDouble>, ISubtractionOperators<DoubleDouble, DoubleDouble, DoubleDouble>,
        IMultiplyOperators<DoubleDouble, DoubleDouble, DoubleDouble>, IDivisionOperators<DoubleDouble, DoubleDouble, DoubleDouble>
{
    public static readonly DoubleDouble Zero = new(0, 0);

    public static readonly DoubleDouble One = new(1, 0);

    // ln 2 to 107 bits; what is left out is 5.7e-34.
    public static readonly DoubleDouble Ln2 = new(0.6931471805599453, 2.3190468138462996e-17);

    private static readonly DoubleDouble[] InverseFactorials = MakeInverseFactorials(32);

    public double High { get; } = high;

    public double Low { get; } = low;

    public static implicit operator DoubleDouble(double value) => new(value, 0);

    public static explicit operator double(DoubleDouble value) => value.High + value.Low;

    public static DoubleDouble operator -(DoubleDouble a) => new(-a.High, -a.Low);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDouble operator +(DoubleDouble a, DoubleDouble b)
    {
        DoubleDouble s = Sum(a.High, b.High);
        DoubleDouble t = Sum(a.Low, b.Low);
        s = QuickSum(s.High, s.Low + t.High);
        return QuickSum(s.High, s.Low + t.Low);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDouble operator -(DoubleDouble a, DoubleDouble b) => a + -b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDouble operator *(DoubleDouble a, DoubleDouble b)
    {
        double p = a.High * b.High;
        double e = ProductError.Of(a.High, b.High, p);
        return QuickSum(p, e + ((a.High * b.Low) + (a.Low * b.High)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDouble operator *(DoubleDouble a, double b)
    {
        double p = a.High * b;
        return QuickSum(p, double.MultiplyAddEstimate(a.Low, b, ProductError.Of(a.High, b, p)));
    }

    public static DoubleDouble operator /(DoubleDouble a, DoubleDouble b)
    {
        double first = a.High / b.High;
        DoubleDouble rest = a - (b * first);
        double second = rest.High / b.High;
        rest -= b * second;
        return QuickSum(first, second) + (rest.High / b.High);
    }

    /// <summary>The exact sum of two doubles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDouble Sum(double a, double b)
    {
        double s = a + b;
        double t = s - a;
        return new(s, (a - (s - t)) + (b - t));
    }

    /// <summary>The exact product of two doubles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDouble Product(double a, double b)
    {
        double p = a * b;
        return new(p, ProductError.Of(a, b, p));
    }

    public static DoubleDouble Abs(DoubleDouble a) => a.High < 0 ? -a : a;

    /// <summary>a times 2^exponent, exactly where nothing underflows.</summary>
    public static DoubleDouble Scale(DoubleDouble a, int exponent) =>
        new(Math.ScaleB(a.High, exponent), Math.ScaleB(a.Low, exponent));

    /// <summary>e^a to about 1e-30 relative; 0 below −745, where float64 has nothing left.</summary>
    public static DoubleDouble Exp(DoubleDouble a)
    {
        if (a.High < -745)
        {
            return Zero;
        }

        if (a.High > 709.7)
        {
            return new(double.PositiveInfinity, 0);
        }

        // e^a = 2^k (e^r)^512 with |r| < 7e-4, where nine terms of the series reach 1e-35. The squarings are done on
        // e^r − 1, which keeps the digits that 1 + r would round away.
        double k = Math.Round(a.High * 1.4426950408889634);
        DoubleDouble r = Scale(a - (Ln2 * k), -9);
        DoubleDouble m = InverseFactorials[9];
        for (int i = 8; i >= 1; i--)
        {
            m = (m * r) + InverseFactorials[i];
        }

        m *= r;
        for (int i = 0; i < 9; i++)
        {
            m = (m * 2.0) + (m * m);
        }

        return Scale(m + One, (int)k);
    }

    public static DoubleDouble InverseFactorial(int n) => InverseFactorials[n];

    public override string ToString() => $"{High:R} + {Low:R}";

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static DoubleDouble QuickSum(double a, double b)
    {
        double s = a + b;
        return new(s, b - (s - a));
    }

    private static DoubleDouble[] MakeInverseFactorials(int count)
    {
        DoubleDouble[] inverse = new DoubleDouble[count];
        inverse[0] = One;
        for (int i = 1; i < count; i++)
        {
            inverse[i] = inverse[i - 1] / i;
        }

        return inverse;
    }
}
