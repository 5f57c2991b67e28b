using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>Keys, values and h = A3 Y, [column][key], for <see cref="PreciseRows"/> and <see cref="PreciseKeys"/>.</summary>
internal sealed unsafe class PreciseOperands : IDisposable
{
    private readonly AlignedBuffer<double> _keys, _plain, _high, _low;

    public PreciseOperands(AttentionProblem<double> problem, CancellationToken cancellation)
    {
        const int Step = 256;
        int n = problem.N, d = problem.D, wide = Projection.Padded(d);
        Keys = Padded(n);
        long length = (long)d * Keys;
        _keys = AlignedBuffer<double>.Zeroed(length);
        _plain = AlignedBuffer<double>.Zeroed(length);
        _high = AlignedBuffer<double>.Zeroed(length);
        _low = AlignedBuffer<double>.Zeroed(length);
        int[] rows = new int[Step];
        double[] high = new double[Step * wide], low = new double[Step * wide];
        for (int first = 0; first < n; first += Step)
        {
            cancellation.ThrowIfCancellationRequested();
            int count = Math.Min(Step, n - first);
            for (int i = 0; i < count; i++)
            {
                rows[i] = first + i;
            }

            Projection.Multiply(problem.A3, problem.Y, rows[..count], d, high, low);
            for (int k = 0; k < d; k++)
            {
                for (int i = 0; i < count; i++)
                {
                    long to = ((long)k * Keys) + first + i, from = ((long)(first + i) * d) + k;
                    _keys.Start[to] = problem.A2[from];
                    _plain.Start[to] = problem.A3[from];
                    _high.Start[to] = high[(i * wide) + k];
                    _low.Start[to] = low[(i * wide) + k];
                }
            }
        }
    }

    /// <summary>How many there are, the zeros that fill up the last vector among them.</summary>
    public int Keys { get; }

    public static int Padded(int n) => checked((n + Vector<double>.Count - 1) / Vector<double>.Count * Vector<double>.Count);

    /// <summary>Column k of A2.</summary>
    public PlainVector Key(int k) => new(_keys.Start + ((long)k * Keys));

    /// <summary>Column k of A3.</summary>
    public PlainVector PlainValue(int k) => new(_plain.Start + ((long)k * Keys));

    /// <summary>Column k of h.</summary>
    public PreciseVector Value(int k) => new(_high.Start + ((long)k * Keys), _low.Start + ((long)k * Keys), Keys);

    public void Dispose()
    {
        _keys.Dispose();
        _plain.Dispose();
        _high.Dispose();
        _low.Dispose();
    }
}
