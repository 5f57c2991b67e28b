using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>How far an output with every gradient is from the reference's, as parts of what is allowed.</summary>
internal static class GradientBars
{
    /// <param name="logit">The largest |logit|, were the scale d.</param>
    public static IEnumerable<(string What, double Ratio)> Ratios<T>(AttentionProblem<T> problem, GradientOutput<T> output, double logit)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AttentionProblem<double> same = problem.To<double>();
        int length = problem.N * problem.D;
        GradientOutput<double> gold = new(problem.N, problem.D) { DQ = new double[length], DK = new double[length], DV = new double[length] };
        BuiltIn.Kernel("reference").Compute(same, Settings.None, gold, KernelContext.Default);
        double largest = problem.Scale == LogitScale.SqrtD ? logit * Math.Sqrt(problem.D) : logit;
        double bar = (typeof(T) == typeof(float) ? Math.ScaleB(1, -23) : Math.ScaleB(1, -52)) * 4 * (20 + largest);
        GradientTerms terms = GradientTerms.Of(same);
        (string What, T[] Values, double[] Expected, double Least)[] all =
        [
            ("dX", output.DX, gold.DX, terms.DX / 16),
            ("dY", output.DY, gold.DY, terms.DY / 16),
            ("dQ", output.DQ!, gold.DQ, terms.DQ / 16),
            ("dK", output.DK!, gold.DK, terms.DK / 16),
            ("dV", output.DV!, gold.DV, terms.DV / 16),
            ("F", output.Forward, gold.Forward, Problems.Product(same.A3, same.Y, problem.N, problem.D).Max(Math.Abs) / 16),
        ];
        foreach ((string what, T[] values, double[] expected, double least) in all)
        {
            if (expected.Max(Math.Abs) is 0 or >= 1e-30)
            {
                yield return ($"{what} in {typeof(T).Name}", Problems.Error(values, expected, least) / bar);
            }
        }

        if (double.IsFinite(output.MaxLogit))
        {
            // A logit is off by its terms' rounding, however small their sum is.
            double most = Math.Max(Math.Max(gold.MaxLogit, largest / 16), 1e-300);
            yield return ($"largest logit in {typeof(T).Name}", Math.Abs(output.MaxLogit - gold.MaxLogit) / most / bar);
            yield return ($"rms logit in {typeof(T).Name}", Math.Abs(output.RmsLogit - gold.RmsLogit) / most / bar);
        }

        double size = gold.Forward.Zip(same.E, (f, e) => (f * f) + (e * e)).Sum();
        yield return ($"loss in {typeof(T).Name}", size == 0 ? 0 : Math.Abs(output.Loss - gold.Loss) / size / bar);
    }
}
