using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>κ = (a2 − mean) / divisor and h = A3 Y, some rows at a time: cheaper made again than kept.</summary>
internal sealed unsafe class KeyOperands<T>(AttentionProblem<T> problem, double* meanKey) : IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly AlignedBuffer<double> _right = RowProducts.Widen(problem.Y, problem.D);

    public void Dispose() => _right.Dispose();

    /// <summary>Writes rows of κ and of h, each <paramref name="keyStride"/> and <paramref name="valueStride"/> after the other.</summary>
    /// <param name="wide">Scratch for twice as many rows in double, its padding 0.</param>
    public void Load(int first, int rows, T* keys, int keyStride, T* values, int valueStride, double* wide)
    {
        int d = problem.D;
        double* product = wide + ((long)rows * RowProducts.Padded(d));
        fixed (T* a2 = problem.A2, a3 = problem.A3)
        {
            RowProducts.Widen(a2 + ((long)first * d), rows, d, wide);
            RowProducts.Centre(wide, rows, d, meanKey, problem.Divisor);
            RowProducts.Round(wide, rows, d, keys, keyStride);
            RowProducts.Widen(a3 + ((long)first * d), rows, d, wide);
            RowProducts.Multiply<T>(wide, rows, d, _right.Start, product);
            RowProducts.Round(product, rows, d, values, valueStride);
        }
    }
}
