using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Experiments.Kernels.Numbers;

/// <summary>What rounding takes from a product of two doubles, exactly: a b − fl(a b).</summary>
/// <remarks>
/// One instruction where the processor fuses multiply-adds. Elsewhere not the library's emulation of that instruction, which costs a hundred
/// times as much, but the seventeen operations of Dekker (1971) with Veltkamp's splitting: the same bits unless a factor is beyond 2^995
/// or the error underflows. Beyond it the scalar one is emulated and the vector one is NaN, which no kernel passes for an answer.
/// </remarks>
internal static class ProductError
{
    // 2^27 + 1 splits 53 bits into 26 and 26 and a sign.
    private const double Splitter = 134217729;
    private const double LargestSplit = 3.3e299;

    public static bool IsFused
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Fma.IsSupported || AdvSimd.Arm64.IsSupported;
    }

    /// <param name="product">fl(a b).</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Of(double a, double b, double product) =>
        IsFused ? Math.FusedMultiplyAdd(a, b, -product) : Split(a, b, product);

    /// <param name="product">fl(a b).</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<double> Of(Vector<double> a, Vector<double> b, Vector<double> product) =>
        IsFused ? Vector.FusedMultiplyAdd(a, b, -product) : Split(a, b, product);

    internal static double Split(double a, double b, double product)
    {
        if (!(Math.Abs(a) < LargestSplit && Math.Abs(b) < LargestSplit))
        {
            return Math.FusedMultiplyAdd(a, b, -product);
        }

        double wideA = Splitter * a, wideB = Splitter * b;
        double highA = wideA - (wideA - a), highB = wideB - (wideB - b);
        double lowA = a - highA, lowB = b - highB;
        return (lowA * lowB) - (((product - (highA * highB)) - (lowA * highB)) - (highA * lowB));
    }

    internal static Vector<double> Split(Vector<double> a, Vector<double> b, Vector<double> product)
    {
        Vector<double> wideA = a * Splitter, wideB = b * Splitter;
        Vector<double> highA = wideA - (wideA - a), highB = wideB - (wideB - b);
        Vector<double> lowA = a - highA, lowB = b - highB;
        return (lowA * lowB) - (((product - (highA * highB)) - (lowA * highB)) - (highA * lowB));
    }
}
