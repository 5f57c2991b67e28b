using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Pass 3, where dK or dV is asked for: N_β = Σ_i q_i^β (c_i, −r_i) / D_i, the moments of the queries.</summary>
/// <param name="queries">Q, (n, d).</param>
/// <param name="residuals">(c, −r) / D, (n, d + 1).</param>
internal sealed unsafe class QueryMoments<L, T>(T* queries, T* residuals, int n, FeaturePlan plan, CancellationToken cancellation)
    : Moments<L, T>(n, plan, cancellation)
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _d = plan.D;

    protected override void Load(int first, int rows, T* x, int xStride, T* y, int yStride, double* wide)
    {
        for (long r = 0; r < rows; r++)
        {
            long row = first + r;
            new Span<T>(queries + (row * _d), _d).CopyTo(new(x + (r * xStride), _d));
            new Span<T>(residuals + (row * (_d + 1)), _d + 1).CopyTo(new(y + (r * yStride), _d + 1));
        }
    }
}
