namespace Experiments.Results.Sweeps.Expressions;

/// <summary>ln, exp and powers that give the same bits on every machine, correctly rounded but for rare ties.</summary>
/// <remarks>
/// An axis such as <c>bound: kappa * sqrt(ln(n))</c> is part of an instance's identity, and every silo computes it again
/// from the frozen sweep. The platforms' own log and exp differ in the last bit, which would give one instance two
/// keys; here everything is made of IEEE additions, products and fused multiply-adds, in pairs of doubles (about 100
/// bits), so log2(1024) is 10 and logspace [1, 1000, 4] is 1, 10, 100, 1000 exactly.
/// Source: Dekker 1971 for the pairs; ln by atanh's series on [√½, √2), exp by Taylor's on |r| ≤ ln 2 / 32.
/// </remarks>
internal static class ExactMath
{
    private static readonly Pair Ln2 = new(0.6931471805599453, 2.3190468138462996e-17);

    private static readonly Pair[] InverseOdd =
        [.. Enumerable.Range(0, 21).Select(i => new Pair(1, 0) / new Pair((2 * i) + 1, 0))];

    public static double Ln(double x) => Special(x) ?? LnPair(x).Value;

    public static double Log2(double x)
    {
        if (Special(x) is double special)
        {
            return special;
        }

        return (Math.ScaleB(1, Math.ILogB(x)) == x) ? Math.ILogB(x) : (LnPair(x) / Ln2).Value;
    }

    public static double Log10(double x) => Special(x) ?? (LnPair(x) / LnPair(10)).Value;

    public static double Exp(double x) => ExpPair(new Pair(x, 0));

    public static double Pow(double x, double y)
    {
        if (double.IsNaN(x) || double.IsNaN(y))
        {
            return double.NaN;
        }

        if (y == Math.Floor(y) && Math.Abs(y) <= 1024)
        {
            return WholePower(x, (int)y);
        }

        if (y == 0.5)
        {
            return Math.Sqrt(x);
        }

        if (x <= 0 || double.IsInfinity(x) || double.IsInfinity(y))
        {
            // Only signs, zeros and infinities remain, on which every platform agrees.
            return x < 0 && y != Math.Floor(y) ? double.NaN : Math.Pow(x, y);
        }

        return ExpPair(LnPair(x) * new Pair(y, 0));
    }

    /// <summary>lo · (hi / lo)^(i / last), the ends themselves at both ends.</summary>
    public static double Geometric(double lo, double hi, long i, long last)
    {
        if (i == 0)
        {
            return lo;
        }

        if (i == last)
        {
            return hi;
        }

        Pair logLo = LnPair(lo);
        Pair step = (LnPair(hi) - logLo) * new Pair(i, 0) / new Pair(last, 0);
        return ExpPair(logLo + step);
    }

    private static double? Special(double x) =>
        double.IsNaN(x) || x < 0 ? double.NaN
        : x == 0 ? double.NegativeInfinity
        : double.IsInfinity(x) ? double.PositiveInfinity
        : null;

    private static double WholePower(double x, int y)
    {
        Pair result = new(1, 0);
        Pair square = new(x, 0);
        for (int e = Math.Abs(y); e > 0; e >>= 1)
        {
            if ((e & 1) != 0)
            {
                result *= square;
            }

            if (e > 1)
            {
                square *= square;
            }

            // A pair past the range of double turns into NaN; the plain power says which infinity or zero it is.
            if (!double.IsFinite(result.Value) || !double.IsFinite(square.Value))
            {
                return Math.Pow(x, y);
            }
        }

        return y < 0 ? (result.Value == 0 ? Math.Pow(x, y) : (new Pair(1, 0) / result).Value) : result.Value;
    }

    private static Pair LnPair(double x)
    {
        int exponent = Math.ILogB(x);
        double m = Math.ScaleB(x, -exponent);
        if (m > 1.4142135623730951)
        {
            m *= 0.5;
            exponent++;
        }

        Pair s = new Pair(m - 1, 0) / Pair.Sum(m, 1);
        Pair square = s * s;
        Pair sum = default;
        for (int k = InverseOdd.Length - 1; k >= 0; k--)
        {
            sum = (sum * square) + InverseOdd[k];
        }

        return (sum * s * new Pair(2, 0)) + (Ln2 * new Pair(exponent, 0));
    }

    private static double ExpPair(Pair x)
    {
        if (double.IsNaN(x.High) || x.High > 709.79)
        {
            return double.IsNaN(x.High) ? double.NaN : double.PositiveInfinity;
        }

        if (x.High < -745.2)
        {
            return 0;
        }

        double k = Math.Round(x.High / Ln2.High);
        Pair r = (x - (Ln2 * new Pair(k, 0))) * new Pair(1.0 / 16, 0);
        Pair sum = new(1, 0);
        for (int m = 16; m >= 1; m--)
        {
            sum = (sum * r / new Pair(m, 0)) + new Pair(1, 0);
        }

        for (int i = 0; i < 4; i++)
        {
            sum *= sum;
        }

        return Math.ScaleB(sum.Value, (int)k);
    }

    /// <summary>An unevaluated sum of two doubles, the second below half an ulp of the first.</summary>
    private readonly record struct Pair(double High, double Low)
    {
        public double Value => High + Low;

        public static Pair Sum(double a, double b)
        {
            double s = a + b;
            double v = s - a;
            return new Pair(s, (a - (s - v)) + (b - v));
        }

        public static Pair operator +(Pair a, Pair b)
        {
            Pair s = Sum(a.High, b.High);
            return Sum(s.High, s.Low + a.Low + b.Low);
        }

        public static Pair operator -(Pair a, Pair b) => a + new Pair(-b.High, -b.Low);

        public static Pair operator *(Pair a, Pair b)
        {
            double p = a.High * b.High;
            double e = Math.FusedMultiplyAdd(a.High, b.High, -p);
            return Sum(p, e + ((a.High * b.Low) + (a.Low * b.High)));
        }

        public static Pair operator /(Pair a, Pair b)
        {
            double q = a.High / b.High;
            Pair r = a - (b * new Pair(q, 0));
            double q2 = r.High / b.High;
            r -= b * new Pair(q2, 0);
            return Sum(q, q2) + new Pair(r.High / b.High, 0);
        }
    }
}
