using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.Numbers;

/// <summary>A vector of <see cref="DoubleDouble"/>, by the same operations in the same order: each lane has the bits that one number has.</summary>
internal readonly struct DoubleDoubles(Vector<double> high, Vector<double> low)
{
    public static int Count => Vector<double>.Count;

    public static DoubleDoubles Zero => new(Vector<double>.Zero, Vector<double>.Zero);

    public Vector<double> High { get; } = high;

    public Vector<double> Low { get; } = low;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDoubles operator +(DoubleDoubles a, DoubleDoubles b)
    {
        DoubleDoubles s = Sum(a.High, b.High);
        DoubleDoubles t = Sum(a.Low, b.Low);
        s = QuickSum(s.High, s.Low + t.High);
        return QuickSum(s.High, s.Low + t.Low);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDoubles operator -(DoubleDoubles a, DoubleDoubles b) => a + new DoubleDoubles(-b.High, -b.Low);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDoubles operator *(DoubleDoubles a, DoubleDoubles b)
    {
        Vector<double> p = a.High * b.High;
        Vector<double> e = ProductError.Of(a.High, b.High, p);
        return QuickSum(p, e + ((a.High * b.Low) + (a.Low * b.High)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDoubles operator *(DoubleDoubles a, Vector<double> b)
    {
        Vector<double> p = a.High * b;
        return QuickSum(p, Lanes.MulAdd(a.Low, b, ProductError.Of(a.High, b, p)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDoubles Broadcast(DoubleDouble value) => new(Vector.Create(value.High), Vector.Create(value.Low));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe DoubleDoubles Load(double* high, double* low) => new(Vector.Load(high), Vector.Load(low));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void Store(double* high, double* low)
    {
        Vector.Store(High, high);
        Vector.Store(Low, low);
    }

    /// <summary>The exact sums of two doubles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDoubles Sum(Vector<double> a, Vector<double> b)
    {
        Vector<double> s = a + b;
        Vector<double> t = s - a;
        return new(s, (a - (s - t)) + (b - t));
    }

    /// <summary>e^a for a ≤ 0, to about 1e-30 relative; 0 below −708.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleDoubles Exp(DoubleDoubles a)
    {
        // As DoubleDouble.Exp, where the reduction is explained; 2^k as in Lanes.Exp.
        const double Lowest = -708;
        Vector<double> beyond = Vector.LessThan(a.High, Vector.Create(Lowest)).As<long, double>();
        Vector<double> magic = Vector.Create(6755399441055744.0);
        Vector<double> z = (Vector.Max(a.High, Vector.Create(Lowest)) * Vector.Create(1.4426950408889634)) + magic;
        Vector<double> k = z - magic;
        Vector<double> small = Vector.Create(1.0 / 512);
        DoubleDoubles r = a - (Broadcast(DoubleDouble.Ln2) * k);
        r = new(r.High * small, r.Low * small);
        DoubleDoubles m = Broadcast(DoubleDouble.InverseFactorial(9));
        for (int i = 8; i >= 1; i--)
        {
            m = (m * r) + Broadcast(DoubleDouble.InverseFactorial(i));
        }

        m *= r;
        for (int i = 0; i < 9; i++)
        {
            m = new DoubleDoubles(m.High + m.High, m.Low + m.Low) + (m * m);
        }

        m += Broadcast(DoubleDouble.One);
        Vector<double> power = (Vector<double>.One.As<double, long>() + Vector.ShiftLeft(z.As<double, long>(), 52)).As<long, double>();
        return new(
            Vector.ConditionalSelect(beyond, Vector<double>.Zero, m.High * power),
            Vector.ConditionalSelect(beyond, Vector<double>.Zero, m.Low * power));
    }

    /// <summary>The sum of the lanes, first to last.</summary>
    public DoubleDouble Total()
    {
        DoubleDouble sum = DoubleDouble.Zero;
        for (int lane = 0; lane < Count; lane++)
        {
            sum += new DoubleDouble(High[lane], Low[lane]);
        }

        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static DoubleDoubles QuickSum(Vector<double> a, Vector<double> b)
    {
        Vector<double> s = a + b;
        return new(s, b - (s - a));
    }
}
