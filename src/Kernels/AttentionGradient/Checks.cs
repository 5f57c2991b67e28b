using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>What every kernel looks at before it lets a number out.</summary>
internal static class Checks
{
    /// <exception cref="KernelFailure">The gradient or the loss is not finite.</exception>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ThrowIfNotFinite<T>(GradientOutput<T> output)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        string precision = typeof(T) == typeof(float) ? "float32" : "float64";
        if (!double.IsFinite(output.Loss))
        {
            throw new KernelFailure(
                $"The loss is {output.Loss} in {precision}: an input is not finite, or entries are too large for it.");
        }

        for (int i = 0; i < output.DX.Length; i++)
        {
            if (!T.IsFinite(output.DX[i]))
            {
                int d = (int)Math.Sqrt(output.DX.Length);
                throw new KernelFailure(
                    $"dX[{i / d}, {i % d}] is {output.DX[i]} in {precision}: an input is not finite, or entries are too "
                    + "large for it.");
            }
        }
    }
}
