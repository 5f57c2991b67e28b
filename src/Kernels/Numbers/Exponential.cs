using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.Numbers;

/// <summary>2^x in a few instructions, for arguments that are known to be in range.</summary>
internal static unsafe class Exponential<V, T>
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>The least x that <see cref="PowersOfTwo"/> takes.</summary>
    public static T Least => T.CreateTruncating(typeof(T) == typeof(float) ? -126 : -1022);

    /// <summary>How many numbers <see cref="PowersOfTwo"/> reads.</summary>
    public static int Constants => typeof(T) == typeof(float) ? 7 : 13;

    /// <summary>What <see cref="PowersOfTwo"/> reads: what rounds to a whole number, then the polynomial's coefficients, the highest first.</summary>
    public static void SetConstants(T* to)
    {
        ReadOnlySpan<double> values = typeof(T) == typeof(float)
            ?
            [
                12582912,
                1.32647270653354422e-3, 9.67151264891131378e-3, 5.55073374369100831e-2, 2.40222420851732153e-1, 6.93146977598857457e-1, 1,
            ]
            :
            [
                6755399441055744,
                4.434472169262249076e-10, 7.073789845410747461e-9, 1.017820116479752267e-7, 1.321543524756854577e-6, 1.525273349052185913e-5,
                1.540353045716833358e-4, 1.333355814677585534e-3, 9.618129107594092186e-3, 5.550410866482008275e-2, 2.402265069591013133e-1,
                6.931471805599453261e-1, 1,
            ];
        for (int i = 0; i < values.Length; i++)
        {
            to[i] = T.CreateTruncating(values[i]);
        }
    }

    /// <summary>x = 2^x for x from <see cref="Least"/> to 127 or 1023, three vectors at once; 2^0 is exactly 1.</summary>
    /// <param name="constants">As <see cref="SetConstants"/> lays them.</param>
    /// <remarks>
    /// Adding 1.5 · 2^23 (2^52) rounds x to a whole number k, which is left in the low bits; 2^(x − k) is the polynomial of degree
    /// 5 (11) that has the least relative error on [−½, ½] among those with constant 1: 9.1e-8 and 3.6e-18 before rounding.
    /// The coefficients come from memory, each once for the three: written as constants they were operands in memory of every
    /// multiply-add, and the loads took longer than those.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void PowersOfTwo(T* constants, ref V x0, ref V x1, ref V x2)
    {
        V magic = V.Broadcast(constants[0]);
        V k0 = x0 + magic, k1 = x1 + magic, k2 = x2 + magic;
        V r0 = x0 - (k0 - magic), r1 = x1 - (k1 - magic), r2 = x2 - (k2 - magic);
        V p0 = V.Broadcast(constants[1]), p1 = p0, p2 = p0;
        Step(constants + 2, r0, r1, r2, ref p0, ref p1, ref p2);
        Step(constants + 3, r0, r1, r2, ref p0, ref p1, ref p2);
        Step(constants + 4, r0, r1, r2, ref p0, ref p1, ref p2);
        Step(constants + 5, r0, r1, r2, ref p0, ref p1, ref p2);
        Step(constants + 6, r0, r1, r2, ref p0, ref p1, ref p2);
        if (typeof(T) == typeof(double))
        {
            Step(constants + 7, r0, r1, r2, ref p0, ref p1, ref p2);
            Step(constants + 8, r0, r1, r2, ref p0, ref p1, ref p2);
            Step(constants + 9, r0, r1, r2, ref p0, ref p1, ref p2);
            Step(constants + 10, r0, r1, r2, ref p0, ref p1, ref p2);
            Step(constants + 11, r0, r1, r2, ref p0, ref p1, ref p2);
            Step(constants + 12, r0, r1, r2, ref p0, ref p1, ref p2);
        }

        (x0, x1, x2) = (V.Scale(p0, k0), V.Scale(p1, k1), V.Scale(p2, k2));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(T* coefficient, V r0, V r1, V r2, ref V p0, ref V p1, ref V p2)
    {
        V c = V.Broadcast(*coefficient);
        p0 = V.MulAdd(p0, r0, c);
        p1 = V.MulAdd(p1, r1, c);
        p2 = V.MulAdd(p2, r2, c);
    }
}
