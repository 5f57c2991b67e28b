using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Pass 1: M_β = Σ_j κ_j^β (h_j, 1), the moments of the keys.</summary>
internal sealed unsafe class KeyMoments<L, T> : Moments<L, T>
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly KeyOperands<T> _keys;
    private readonly int _d;

    public KeyMoments(KeyOperands<T> keys, int n, FeaturePlan plan, CancellationToken cancellation)
        : base(n, plan, cancellation) => (_keys, _d) = (keys, plan.D);

    protected override void Load(int first, int rows, T* x, int xStride, T* y, int yStride, double* wide)
    {
        _keys.Load(first, rows, x, xStride, y, yStride, wide);
        for (long r = 0; r < rows; r++)
        {
            y[(r * yStride) + _d] = T.One;
        }
    }
}
