using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>Sine and cosine of a vector of angles, to about 1 ulp of 1.</summary>
/// <remarks>
/// The library's own took ten times as long (24 ns an angle), which made random Fourier features a straw man.
/// t = k π/2 + r in the manner of Cody and Waite: π/2 in three parts of which the first two have so few digits that k times them
/// is exact. Adding 1.5·2^52 rounds to a whole number and leaves k in the low bits, whose last two say which of ± sine and ±
/// cosine of r is meant. Polynomials on |r| ≤ π/4 are those of Moshier's Cephes library, sinf.c and sin.c. Larger angles than
/// three parts are good for go to the library, as do NaN and infinities.
/// </remarks>
internal static class Angles
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (Vector<T> Sine, Vector<T> Cosine) SinCos<T>(Vector<T> angle)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            (Vector<float> sine, Vector<float> cosine) = OfSingle(angle.As<T, float>());
            return (sine.As<float, T>(), cosine.As<float, T>());
        }
        else
        {
            (Vector<double> sine, Vector<double> cosine) = OfDouble(angle.As<T, double>());
            return (sine.As<double, T>(), cosine.As<double, T>());
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector<float> Sine, Vector<float> Cosine) OfSingle(Vector<float> angle)
    {
        if (!Vector.LessThanAll(Vector.Abs(angle), Vector.Create(8192f)))
        {
            return Vector.SinCos(angle);
        }

        Vector<float> magic = Vector.Create(12582912f), z = (angle * Vector.Create(0.636619772f)) + magic, k = z - magic;
        Vector<float> r = angle - (k * Vector.Create(1.5703125f));
        r -= k * Vector.Create(4.837512969970703125e-4f);
        r -= k * Vector.Create(7.54978995489188216e-8f);
        Vector<float> square = r * r;
        Vector<float> sine = Vector.Create(-1.9515295891e-4f);
        sine = Lanes.MulAdd(sine, square, Vector.Create(8.3321608736e-3f));
        sine = Lanes.MulAdd(sine, square, Vector.Create(-1.6666654611e-1f));
        sine = Lanes.MulAdd(sine * square, r, r);
        Vector<float> cosine = Vector.Create(2.443315711809948e-5f);
        cosine = Lanes.MulAdd(cosine, square, Vector.Create(-1.388731625493765e-3f));
        cosine = Lanes.MulAdd(cosine, square, Vector.Create(4.166664568298827e-2f));
        cosine = Lanes.MulAdd(cosine * square, square, Lanes.MulAdd(square, Vector.Create(-0.5f), Vector<float>.One));

        Vector<int> quadrant = z.As<float, int>();
        Vector<float> odd = Vector.Equals(quadrant & Vector<int>.One, Vector<int>.One).As<int, float>();
        Vector<int> signOfSine = Vector.ShiftLeft(quadrant & Vector.Create(2), 30);
        Vector<int> signOfCosine = Vector.ShiftLeft((quadrant + Vector<int>.One) & Vector.Create(2), 30);
        Vector<float> first = Vector.ConditionalSelect(odd, cosine, sine), second = Vector.ConditionalSelect(odd, sine, cosine);
        return ((first.As<float, int>() ^ signOfSine).As<int, float>(), (second.As<float, int>() ^ signOfCosine).As<int, float>());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector<double> Sine, Vector<double> Cosine) OfDouble(Vector<double> angle)
    {
        if (!Vector.LessThanAll(Vector.Abs(angle), Vector.Create(1e6)))
        {
            return Vector.SinCos(angle);
        }

        Vector<double> magic = Vector.Create(6755399441055744.0);
        Vector<double> z = (angle * Vector.Create(0.63661977236758134308)) + magic, k = z - magic;
        Vector<double> r = angle - (k * Vector.Create(2 * 7.85398125648498535156e-1));
        r -= k * Vector.Create(2 * 3.77489470793079817668e-8);
        r -= k * Vector.Create(2 * 2.69515142907905952645e-15);
        Vector<double> square = r * r;
        Vector<double> sine = Vector.Create(1.58962301576546568060e-10);
        sine = Lanes.MulAdd(sine, square, Vector.Create(-2.50507477628578072866e-8));
        sine = Lanes.MulAdd(sine, square, Vector.Create(2.75573136213857245213e-6));
        sine = Lanes.MulAdd(sine, square, Vector.Create(-1.98412698295895385996e-4));
        sine = Lanes.MulAdd(sine, square, Vector.Create(8.33333333332211858878e-3));
        sine = Lanes.MulAdd(sine, square, Vector.Create(-1.66666666666666307295e-1));
        sine = Lanes.MulAdd(sine * square, r, r);
        Vector<double> cosine = Vector.Create(-1.13585365213876817300e-11);
        cosine = Lanes.MulAdd(cosine, square, Vector.Create(2.08757008419747316778e-9));
        cosine = Lanes.MulAdd(cosine, square, Vector.Create(-2.75573141792967388112e-7));
        cosine = Lanes.MulAdd(cosine, square, Vector.Create(2.48015872888517045348e-5));
        cosine = Lanes.MulAdd(cosine, square, Vector.Create(-1.38888888888730564116e-3));
        cosine = Lanes.MulAdd(cosine, square, Vector.Create(4.16666666666665929218e-2));
        cosine = Lanes.MulAdd(cosine * square, square, Lanes.MulAdd(square, Vector.Create(-0.5), Vector<double>.One));

        Vector<long> quadrant = z.As<double, long>();
        Vector<double> odd = Vector.Equals(quadrant & Vector<long>.One, Vector<long>.One).As<long, double>();
        Vector<long> signOfSine = Vector.ShiftLeft(quadrant & Vector.Create(2L), 62);
        Vector<long> signOfCosine = Vector.ShiftLeft((quadrant + Vector<long>.One) & Vector.Create(2L), 62);
        Vector<double> first = Vector.ConditionalSelect(odd, cosine, sine), second = Vector.ConditionalSelect(odd, sine, cosine);
        return ((first.As<double, long>() ^ signOfSine).As<long, double>(), (second.As<double, long>() ^ signOfCosine).As<long, double>());
    }
}
