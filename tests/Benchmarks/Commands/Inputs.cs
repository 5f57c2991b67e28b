using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Benchmarks.Commands;

/// <summary>The inputs that everything is measured on.</summary>
internal static class Inputs
{
    /// <summary>The uniform family's instance of a shape: the same bits on every machine and in every run.</summary>
    public static AttentionProblem<double> Draw(int n, int d, double bound) =>
        new UniformFamily().Draw(new(n, d, bound, ((ulong)n << 16) | (uint)d, Settings.None));

    /// <summary>Largest difference over the largest entry of the gold.</summary>
    public static double Error(double[] values, double[] gold)
    {
        double difference = 0, largest = 0;
        for (int i = 0; i < gold.Length; i++)
        {
            double off = Math.Abs(values[i] - gold[i]);
            difference = double.IsNaN(off) ? double.PositiveInfinity : Math.Max(difference, off);
            largest = Math.Max(largest, Math.Abs(gold[i]));
        }

        return difference == 0 ? 0 : difference / largest;
    }
}
