using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.Numbers;

/// <summary>2^x in a few instructions, for arguments that are known to be in range.</summary>
internal static class Exponential<V, T>
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>The least x that <see cref="PowerOfTwo"/> takes.</summary>
    public static T Least => T.CreateTruncating(typeof(T) == typeof(float) ? -126 : -1022);

    /// <summary>2^x for x from <see cref="Least"/> to 127 or 1023; 2^0 is exactly 1.</summary>
    /// <remarks>
    /// Adding 1.5 · 2^23 (2^52) rounds x to a whole number k, which is left in the low bits; 2^(x − k) is the polynomial of degree
    /// 5 (11) that has the least relative error on [−½, ½] among those with constant 1: 9.1e-8 and 3.6e-18 before rounding.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V PowerOfTwo(V x)
    {
        if (typeof(T) == typeof(float))
        {
            V magic = Constant(12582912);
            V k = x + magic;
            V r = x - (k - magic);
            V p = V.MulAdd(Constant(1.32647270653354422e-3), r, Constant(9.67151264891131378e-3));
            p = V.MulAdd(p, r, Constant(5.55073374369100831e-2));
            p = V.MulAdd(p, r, Constant(2.40222420851732153e-1));
            p = V.MulAdd(p, r, Constant(6.93146977598857457e-1));
            return V.Scale(V.MulAdd(p, r, Constant(1)), k);
        }
        else
        {
            V magic = Constant(6755399441055744);
            V k = x + magic;
            V r = x - (k - magic);
            V p = V.MulAdd(Constant(4.434472169262249076e-10), r, Constant(7.073789845410747461e-9));
            p = V.MulAdd(p, r, Constant(1.017820116479752267e-7));
            p = V.MulAdd(p, r, Constant(1.321543524756854577e-6));
            p = V.MulAdd(p, r, Constant(1.525273349052185913e-5));
            p = V.MulAdd(p, r, Constant(1.540353045716833358e-4));
            p = V.MulAdd(p, r, Constant(1.333355814677585534e-3));
            p = V.MulAdd(p, r, Constant(9.618129107594092186e-3));
            p = V.MulAdd(p, r, Constant(5.550410866482008275e-2));
            p = V.MulAdd(p, r, Constant(2.402265069591013133e-1));
            p = V.MulAdd(p, r, Constant(6.931471805599453261e-1));
            return V.Scale(V.MulAdd(p, r, Constant(1)), k);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V Constant(double value) => V.Broadcast(T.CreateTruncating(value));
}
