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

        ThrowIfNotFinite("dX", output.DX, output, precision);
    }

    /// <summary>The same of a kernel that gives every gradient, for those that were asked for.</summary>
    /// <exception cref="KernelFailure">One of them, or the loss, is not finite.</exception>
    public static void ThrowIfAnyIsNotFinite<T>(GradientOutput<T> output)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ThrowIfNotFinite(output);
        string precision = typeof(T) == typeof(float) ? "float32" : "float64";
        ThrowIfNotFinite("dY", output.DY, output, precision);
        ThrowIfNotFinite("dQ", output.DQ, output, precision);
        ThrowIfNotFinite("dK", output.DK, output, precision);
        ThrowIfNotFinite("dV", output.DV, output, precision);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ThrowIfNotFinite<T>(string name, T[]? values, GradientOutput<T> output, string precision)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int i = 0; i < (values?.Length ?? 0); i++)
        {
            if (!T.IsFinite(values![i]))
            {
                int d = (int)Math.Sqrt(output.DX.Length);
                throw new KernelFailure(
                    $"{name}[{i / d}, {i % d}] is {values[i]} in {precision}: an input is not finite, or entries are too "
                    + "large for it.");
            }
        }
    }
}
