using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Between the passes: the chunks' sums added up, and weighed for the value and for the slope of the polynomial.</summary>
internal sealed unsafe class WeighedMoments<T> : Chunks, IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int SlotsPerChunk = 512;

    private readonly FeaturePlan _plan;
    private readonly double[] _a, _hat;
    private readonly int _columns;
    private readonly AlignedBuffer<T> _value, _slope;
    private readonly CancellationToken _cancellation;
    private double*[] _sums = [];

    /// <param name="a">Σ a_m s^m stands for exp in the values; a_0 … a_g.</param>
    /// <param name="hat">The derivative of Σ b̂_m s^m stands for exp in the gradient; b̂_0 … b̂_G.</param>
    public WeighedMoments(
        FeaturePlan plan, int valueFeatures, double[] a, double[] hat, CancellationToken cancellation)
    {
        _plan = plan;
        _a = a;
        _hat = hat;
        _columns = plan.D + 1;
        _cancellation = cancellation;
        _value = new((long)valueFeatures * _columns);
        _slope = new((long)plan.Table.Count * _columns);
    }

    /// <summary>a_|β| W_β M_β, [monomial][column], up to the polynomial's degree.</summary>
    public T* Value => _value.Start;

    /// <summary>b̂_|β| W_β M_β, [monomial][column], up to degree G.</summary>
    public T* Slope => _slope.Start;

    /// <summary>Computes moments and weighs them, in place of those that were here; their sums are used up.</summary>
    public void Fill<L>(Moments<L, T> moments, int threads)
        where L : struct, ILanes<L, T>
    {
        moments.Run(moments.ChunkCount, threads, _cancellation);
        _sums = new double*[moments.RowChunks];
        for (int i = 0; i < _sums.Length; i++)
        {
            _sums[i] = moments.Sums(i);
        }

        Run((_plan.Slots + SlotsPerChunk - 1) / SlotsPerChunk, threads, _cancellation);
        _sums = [];
    }

    public void Dispose()
    {
        _value.Dispose();
        _slope.Dispose();
    }

    protected override void Take()
    {
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            int first = chunk * SlotsPerChunk, end = Math.Min(_plan.Slots, first + SlotsPerChunk);
            for (int l = 0; l < _columns; l++)
            {
                AddUp(((long)l * _plan.Slots) + first, end - first);
            }

            foreach (FeaturePlan.Run run in _plan.Runs)
            {
                _cancellation.ThrowIfCancellationRequested();
                int from = Math.Max(first, run.Slot), to = Math.Min(end, run.Slot + run.Length);
                if (from < to)
                {
                    Weigh(from, to - from, run.Monomial + from - run.Slot);
                }
            }
        }
    }

    /// <summary>Adds the chunks' sums into the first's, pairwise and in their order.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void AddUp(long at, int count)
    {
        for (int stride = 1; stride < _sums.Length; stride *= 2)
        {
            for (int i = 0; i + stride < _sums.Length; i += 2 * stride)
            {
                double* into = _sums[i] + at, from = _sums[i + stride] + at;
                int k = 0;
                for (; k <= count - Vector<double>.Count; k += Vector<double>.Count)
                {
                    Vector.Store(Vector.Load(into + k) + Vector.Load(from + k), into + k);
                }

                for (; k < count; k++)
                {
                    into[k] += from[k];
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void Weigh(int slot, int count, int monomial)
    {
        int degree = Array.BinarySearch(_plan.Table.FirstOfDegree, monomial);
        degree = degree < 0 ? ~degree - 1 : degree;
        for (int t = 0; t < count; t++, monomial++)
        {
            while (monomial >= _plan.Table.FirstOfDegree[degree + 1])
            {
                degree++;
            }

            double weight = _plan.Table.Weights[monomial], ofSlope = _hat[degree] * weight;
            double* moment = _sums[0] + slot + t;
            T* slope = Slope + ((long)monomial * _columns);
            for (int l = 0; l < _columns; l++)
            {
                slope[l] = T.CreateTruncating(ofSlope * moment[(long)l * _plan.Slots]);
            }

            if (degree < _a.Length)
            {
                double ofValue = _a[degree] * weight;
                T* value = Value + ((long)monomial * _columns);
                for (int l = 0; l < _columns; l++)
                {
                    value[l] = T.CreateTruncating(ofValue * moment[(long)l * _plan.Slots]);
                }
            }
        }
    }
}
