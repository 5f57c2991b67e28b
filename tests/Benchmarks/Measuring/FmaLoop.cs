using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Experiments.Benchmarks.Measuring;

/// <summary>The floating-point peak that this machine really has: a loop of fused multiply-adds that touches no memory.</summary>
/// <remarks>
/// Twelve independent accumulators, more than latency × throughput asks for (4 cycles × 2 units = 8) and, with the two
/// operands, fewer than AVX2's 16 registers. One source for every width: the policy structs compile away.
/// </remarks>
internal sealed class FmaLoop
{
    private const int Accumulators = 12;

    private readonly Func<long, double> _loop;
    private readonly int _lanes;

    private FmaLoop(int bits, bool single, Func<long, double> loop)
    {
        Bits = bits;
        _lanes = bits / (single ? 32 : 64);
        _loop = loop;
    }

    /// <summary>Width of its vectors: 128, 256 or 512.</summary>
    public int Bits { get; }

    /// <summary>Floating-point operations of one turn of the loop.</summary>
    public double FlopsPerTurn => 2.0 * Accumulators * _lanes;

    /// <summary>The loops this process can run at full speed, the narrowest first; 128 bits only where there are no more.</summary>
    /// <exception cref="ArgumentException">The process has no fused multiply-add in hardware: emulated ones are no peak.</exception>
    public static IReadOnlyList<FmaLoop> For<T>()
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (!Fma.IsSupported && !AdvSimd.IsSupported)
        {
            throw new ArgumentException(
                "This process has no fused multiply-add in hardware, so there is no peak to measure. Unset DOTNET_EnableAVX2 "
                + "and DOTNET_EnableHWIntrinsic, or use another machine.");
        }

        bool single = typeof(T) == typeof(float);
        List<FmaLoop> loops = [];
        if (!Vector256.IsHardwareAccelerated)
        {
            loops.Add(new(128, single, single ? Run<Vector128<float>, Single128> : Run<Vector128<double>, Double128>));
        }
        else
        {
            loops.Add(new(256, single, single ? Run<Vector256<float>, Single256> : Run<Vector256<double>, Double256>));
        }

        if (Vector512.IsHardwareAccelerated)
        {
            loops.Add(new(512, single, single ? Run<Vector512<float>, Single512> : Run<Vector512<double>, Double512>));
        }

        return loops;
    }

    /// <summary>So many turns on the calling thread.</summary>
    /// <returns>A number that depends on all of them, so that none can be left out.</returns>
    public double Run(long turns) => _loop(turns);

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static double Run<TVector, TOperations>(long turns)
        where TVector : struct
        where TOperations : IOperations<TVector>
    {
        // x ← x/2 + 1 tends to 2: no overflow, no denormal number, however many turns.
        TVector half = TOperations.All(0.5), one = TOperations.All(1);
        TVector a = TOperations.All(1.1), b = TOperations.All(1.2), c = TOperations.All(1.3), d = TOperations.All(1.4);
        TVector e = TOperations.All(1.5), f = TOperations.All(1.6), g = TOperations.All(1.7), h = TOperations.All(1.8);
        TVector i = TOperations.All(1.9), j = TOperations.All(2.1), k = TOperations.All(2.2), l = TOperations.All(2.3);
        for (long turn = 0; turn < turns; turn++)
        {
            a = TOperations.MultiplyAdd(a, half, one);
            b = TOperations.MultiplyAdd(b, half, one);
            c = TOperations.MultiplyAdd(c, half, one);
            d = TOperations.MultiplyAdd(d, half, one);
            e = TOperations.MultiplyAdd(e, half, one);
            f = TOperations.MultiplyAdd(f, half, one);
            g = TOperations.MultiplyAdd(g, half, one);
            h = TOperations.MultiplyAdd(h, half, one);
            i = TOperations.MultiplyAdd(i, half, one);
            j = TOperations.MultiplyAdd(j, half, one);
            k = TOperations.MultiplyAdd(k, half, one);
            l = TOperations.MultiplyAdd(l, half, one);
        }

        return TOperations.Sum(a) + TOperations.Sum(b) + TOperations.Sum(c) + TOperations.Sum(d)
            + TOperations.Sum(e) + TOperations.Sum(f) + TOperations.Sum(g) + TOperations.Sum(h)
            + TOperations.Sum(i) + TOperations.Sum(j) + TOperations.Sum(k) + TOperations.Sum(l);
    }

    private interface IOperations<TVector>
    {
        static abstract TVector All(double value);

        static abstract TVector MultiplyAdd(TVector x, TVector y, TVector z);

        static abstract double Sum(TVector x);
    }

    private readonly struct Single128 : IOperations<Vector128<float>>
    {
        public static Vector128<float> All(double value) => Vector128.Create((float)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<float> MultiplyAdd(Vector128<float> x, Vector128<float> y, Vector128<float> z) =>
            Vector128.FusedMultiplyAdd(x, y, z);

        public static double Sum(Vector128<float> x) => Vector128.Sum(x);
    }

    private readonly struct Double128 : IOperations<Vector128<double>>
    {
        public static Vector128<double> All(double value) => Vector128.Create(value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<double> MultiplyAdd(Vector128<double> x, Vector128<double> y, Vector128<double> z) =>
            Vector128.FusedMultiplyAdd(x, y, z);

        public static double Sum(Vector128<double> x) => Vector128.Sum(x);
    }

    private readonly struct Single256 : IOperations<Vector256<float>>
    {
        public static Vector256<float> All(double value) => Vector256.Create((float)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<float> MultiplyAdd(Vector256<float> x, Vector256<float> y, Vector256<float> z) =>
            Vector256.FusedMultiplyAdd(x, y, z);

        public static double Sum(Vector256<float> x) => Vector256.Sum(x);
    }

    private readonly struct Double256 : IOperations<Vector256<double>>
    {
        public static Vector256<double> All(double value) => Vector256.Create(value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<double> MultiplyAdd(Vector256<double> x, Vector256<double> y, Vector256<double> z) =>
            Vector256.FusedMultiplyAdd(x, y, z);

        public static double Sum(Vector256<double> x) => Vector256.Sum(x);
    }

    private readonly struct Single512 : IOperations<Vector512<float>>
    {
        public static Vector512<float> All(double value) => Vector512.Create((float)value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> MultiplyAdd(Vector512<float> x, Vector512<float> y, Vector512<float> z) =>
            Vector512.FusedMultiplyAdd(x, y, z);

        public static double Sum(Vector512<float> x) => Vector512.Sum(x);
    }

    private readonly struct Double512 : IOperations<Vector512<double>>
    {
        public static Vector512<double> All(double value) => Vector512.Create(value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<double> MultiplyAdd(Vector512<double> x, Vector512<double> y, Vector512<double> z) =>
            Vector512.FusedMultiplyAdd(x, y, z);

        public static double Sum(Vector512<double> x) => Vector512.Sum(x);
    }
}
