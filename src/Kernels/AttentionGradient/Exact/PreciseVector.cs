using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>Numbers of twice the digits, one for each key, in memory that another owns; whole vectors of them.</summary>
/// <param name="high">Where the upper parts are.</param>
/// <param name="low">Where the lower parts are.</param>
internal readonly unsafe struct PreciseVector(double* high, double* low, int length)
{
    private readonly double* _high = high, _low = low;

    /// <summary>The lower parts right after the upper ones.</summary>
    public PreciseVector(double* start, int length)
        : this(start, start + length, length)
    {
    }

    public int Length { get; } = length;

    public DoubleDouble this[int j]
    {
        get => new(_high[j], _low[j]);
        set => (_high[j], _low[j]) = (value.High, value.Low);
    }

    public PreciseVector Slice(int start, int length) => new(_high + start, _low + start, length);

    public void Clear()
    {
        new Span<double>(_high, Length).Clear();
        new Span<double>(_low, Length).Clear();
    }

    public void Fill(DoubleDouble value)
    {
        new Span<double>(_high, Length).Fill(value.High);
        new Span<double>(_low, Length).Fill(value.Low);
    }

    /// <summary>The first key of the largest number among the first <paramref name="count"/>.</summary>
    public int LargestOf(int count)
    {
        int largest = 0;
        for (int j = 1; j < count; j++)
        {
            largest = _high[j] > _high[largest] ? j : largest;
        }

        return largest;
    }

    /// <summary>this[j] += factor x[j].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void AddProduct(DoubleDouble factor, PlainVector x)
    {
        DoubleDoubles y = DoubleDoubles.Broadcast(factor);
        for (int j = 0; j < Length; j += DoubleDoubles.Count)
        {
            (At(j) + (y * x.At(j))).Store(_high + j, _low + j);
        }
    }

    /// <summary>this[j] += factor (x[j] − origin).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void AddProduct(DoubleDouble factor, PreciseVector x, DoubleDouble origin)
    {
        DoubleDoubles y = DoubleDoubles.Broadcast(factor), from = DoubleDoubles.Broadcast(origin);
        for (int j = 0; j < Length; j += DoubleDoubles.Count)
        {
            (At(j) + (y * (x.At(j) - from))).Store(_high + j, _low + j);
        }
    }

    /// <summary>this[j] *= x[j].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void MultiplyBy(PreciseVector x)
    {
        for (int j = 0; j < Length; j += DoubleDoubles.Count)
        {
            (At(j) * x.At(j)).Store(_high + j, _low + j);
        }
    }

    /// <summary>this[j] = e^(this[j] − largest), and 0 from <paramref name="count"/> on.</summary>
    /// <returns>Their sum.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public DoubleDouble TakeExponentials(DoubleDouble largest, int count)
    {
        DoubleDoubles from = DoubleDoubles.Broadcast(largest), sum = DoubleDoubles.Zero;
        for (int j = 0; j < Length; j += DoubleDoubles.Count)
        {
            DoubleDoubles.Exp(At(j) - from).Store(_high + j, _low + j);
            for (int hidden = Math.Max(j, count); hidden < j + DoubleDoubles.Count; hidden++)
            {
                this[hidden] = DoubleDouble.Zero;
            }

            sum += At(j);
        }

        return sum.Total();
    }

    /// <summary>Σ_j this[j] (x[j] − origin).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public DoubleDouble Dot(PreciseVector x, DoubleDouble origin)
    {
        DoubleDoubles from = DoubleDoubles.Broadcast(origin), sum = DoubleDoubles.Zero;
        for (int j = 0; j < Length; j += DoubleDoubles.Count)
        {
            sum += At(j) * (x.At(j) - from);
        }

        return sum.Total();
    }

    /// <summary>Σ_j this[j] (x[j] − origin).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public DoubleDouble Dot(PlainVector x, double origin)
    {
        Vector<double> from = Vector.Create(-origin);
        DoubleDoubles sum = DoubleDoubles.Zero;
        for (int j = 0; j < Length; j += DoubleDoubles.Count)
        {
            sum += At(j) * DoubleDoubles.Sum(x.At(j), from);
        }

        return sum.Total();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private DoubleDoubles At(int j) => DoubleDoubles.Load(_high + j, _low + j);
}

/// <summary>Doubles, one for each key, in memory that another owns.</summary>
internal readonly unsafe struct PlainVector(double* start)
{
    private readonly double* _start = start;

    public double this[int j] => _start[j];

    public PlainVector From(int first) => new(_start + first);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector<double> At(int j) => Vector.Load(_start + j);
}
