using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.Numbers;

/// <summary>Vector operations that <see cref="Vector"/> has for float and double but not for T.</summary>
internal static class Lanes
{
    /// <summary>a b + c; rounded once where the processor can, else twice (emulating it is 100 times slower).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<T> MulAdd<T>(Vector<T> a, Vector<T> b, Vector<T> c) =>
        typeof(T) == typeof(float)
            ? Vector.MultiplyAddEstimate(a.As<T, float>(), b.As<T, float>(), c.As<T, float>()).As<float, T>()
            : Vector.MultiplyAddEstimate(a.As<T, double>(), b.As<T, double>(), c.As<T, double>()).As<double, T>();

    /// <summary>e^t for t ≤ 0, to about 1 ulp; 0 below −708 (float64) or −87 (float32), NaN for NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<T> Exp<T>(Vector<T> t) =>
        typeof(T) == typeof(float) ? ExpSingle(t.As<T, float>()).As<float, T>() : ExpDouble(t.As<T, double>()).As<double, T>();

    // e^t = 2^k e^r, k = round(t / ln 2), |r| ≤ ln 2 / 2, in the manner of Cody and Waite: the upper part of ln 2 has so few
    // digits that k times it is exact. Adding 1.5·2^52 rounds to a whole number and leaves k in the low bits, from where a
    // shift carries it into the exponent. e^r by its series: the first term left out is below a tenth of an ulp, and the
    // constant is exactly 1, so that e^0 is.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<double> ExpDouble(Vector<double> t)
    {
        Vector<double> inRange = Vector.ConditionalSelect(
            Vector.LessThan(t, Vector.Create(-708.0)), Vector.Create(-708.0), t);
        Vector<double> magic = Vector.Create(6755399441055744.0);
        Vector<double> z = (inRange * Vector.Create(1.4426950408889634)) + magic;
        Vector<double> k = z - magic;
        Vector<double> r = inRange - (k * Vector.Create(6.93147180369123816490e-01));
        r -= k * Vector.Create(1.90821492927058770002e-10);
        Vector<double> p = Vector.Create(1 / 6227020800.0);
        p = MulAdd(p, r, Vector.Create(1 / 479001600.0));
        p = MulAdd(p, r, Vector.Create(1 / 39916800.0));
        p = MulAdd(p, r, Vector.Create(1 / 3628800.0));
        p = MulAdd(p, r, Vector.Create(1 / 362880.0));
        p = MulAdd(p, r, Vector.Create(1 / 40320.0));
        p = MulAdd(p, r, Vector.Create(1 / 5040.0));
        p = MulAdd(p, r, Vector.Create(1 / 720.0));
        p = MulAdd(p, r, Vector.Create(1 / 120.0));
        p = MulAdd(p, r, Vector.Create(1 / 24.0));
        p = MulAdd(p, r, Vector.Create(1 / 6.0));
        p = MulAdd(p, r, Vector.Create(0.5));
        p = MulAdd(p, r, Vector<double>.One);
        p = MulAdd(p, r, Vector<double>.One);
        Vector<double> scaled = (p.As<double, long>() + Vector.ShiftLeft(z.As<double, long>(), 52)).As<long, double>();
        scaled = Vector.ConditionalSelect(Vector.LessThan(t, Vector.Create(-708.0)), Vector<double>.Zero, scaled);
        return Vector.ConditionalSelect(Vector.Equals(t, t), scaled, t);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<float> ExpSingle(Vector<float> t)
    {
        Vector<float> inRange = Vector.ConditionalSelect(Vector.LessThan(t, Vector.Create(-87f)), Vector.Create(-87f), t);
        Vector<float> magic = Vector.Create(12582912f);
        Vector<float> z = (inRange * Vector.Create(1.44269504f)) + magic;
        Vector<float> k = z - magic;
        Vector<float> r = inRange - (k * Vector.Create(0.693359375f));
        r -= k * Vector.Create(-2.12194440e-4f);
        Vector<float> p = Vector.Create(1 / 5040f);
        p = MulAdd(p, r, Vector.Create(1 / 720f));
        p = MulAdd(p, r, Vector.Create(1 / 120f));
        p = MulAdd(p, r, Vector.Create(1 / 24f));
        p = MulAdd(p, r, Vector.Create(1 / 6f));
        p = MulAdd(p, r, Vector.Create(0.5f));
        p = MulAdd(p, r, Vector<float>.One);
        p = MulAdd(p, r, Vector<float>.One);
        Vector<float> scaled = (p.As<float, int>() + Vector.ShiftLeft(z.As<float, int>(), 23)).As<int, float>();
        scaled = Vector.ConditionalSelect(Vector.LessThan(t, Vector.Create(-87f)), Vector<float>.Zero, scaled);
        return Vector.ConditionalSelect(Vector.Equals(t, t), scaled, t);
    }
}
