using System.Numerics;
using Experiments.Kernels.AttentionGradient;

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
        (double[] ofQueries, double[] ofKeys, double[] ofValues) = Terms(same);
        (string What, T[] Values, double[] Expected, double Least)[] all =
        [
            ("dX", output.DX, gold.DX, Absolute(same.A1, ofQueries, problem.D) / 16),
            ("dY", output.DY, gold.DY, Absolute(same.A3, ofValues, problem.D) / 16),
            ("dQ", output.DQ!, gold.DQ, ofQueries.Max() / 16),
            ("dK", output.DK!, gold.DK, ofKeys.Max() / 16),
            ("dV", output.DV!, gold.DV, ofValues.Max() / 16),
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
            double most = Math.Max(gold.MaxLogit, 1e-300);
            yield return ($"largest logit in {typeof(T).Name}", Math.Abs(output.MaxLogit - gold.MaxLogit) / most / bar);
            yield return ($"rms logit in {typeof(T).Name}", Math.Abs(output.RmsLogit - gold.RmsLogit) / most / bar);
        }

        double size = gold.Forward.Zip(same.E, (f, e) => (f * f) + (e * e)).Sum();
        yield return ($"loss in {typeof(T).Name}", size == 0 ? 0 : Math.Abs(output.Loss - gold.Loss) / size / bar);
    }

    /// <summary>The largest entry of |left|ᵀ |right|: what a product of theirs that is smaller owes to cancellation.</summary>
    public static double Absolute(double[] left, double[] right, int d)
    {
        double[] product = new double[d * d];
        for (int i = 0; i < left.Length / d; i++)
        {
            for (int k = 0; k < d * d; k++)
            {
                product[k] += Math.Abs(left[(i * d) + (k / d)] * right[(i * d) + (k % d)]);
            }
        }

        return product.Max();
    }

    /// <summary>The sums that dQ, dK and dV are, without the signs of their terms: of |p κ|, |p q| and |f c|. What is smaller owes it to
    /// cancellation, which no arithmetic of its precision can follow.</summary>
    private static (double[] OfQueries, double[] OfKeys, double[] OfValues) Terms(AttentionProblem<double> problem)
    {
        int n = problem.N, d = problem.D;
        double[] q = Problems.Product(problem.A1, problem.X, n, d), h = Problems.Product(problem.A3, problem.Y, n, d);
        double[] f = new double[n], c = new double[d], centre = new double[d], middle = new double[d], mixed = new double[d], queries = new double[n * d], keys = new double[n * d], values = new double[n * d];
        for (int i = 0; i < n; i++)
        {
            int seen = problem.Causal ? i + 1 : n;
            for (int j = 0; j < seen; j++)
            {
                f[j] = Dot(q, i, problem.A2, j) / problem.Divisor;
            }

            double most = f.AsSpan(0, seen).ToArray().Max(), sum = 0;
            for (int j = 0; j < seen; j++)
            {
                sum += f[j] = Math.Exp(f[j] - most);
            }

            Array.Clear(c);
            Array.Clear(centre);
            Array.Clear(middle);
            for (int j = 0; j < seen; j++)
            {
                f[j] /= sum;
                for (int k = 0; k < d; k++)
                {
                    c[k] += f[j] * h[(j * d) + k];
                    centre[k] += f[j] * problem.A2[(j * d) + k];
                    middle[k] += f[j] * problem.A3[(j * d) + k];
                }
            }

            for (int k = 0; k < d; k++)
            {
                c[k] = Math.Abs(c[k] - problem.E[(i * d) + k]);
            }

            // c·(h_j − F) term by term: h is a product itself, which cancels where Y is nearly singular.
            for (int m = 0; m < d; m++)
            {
                mixed[m] = 0;
                for (int k = 0; k < d; k++)
                {
                    mixed[m] += Math.Abs(problem.Y[(m * d) + k]) * c[k];
                }
            }

            for (int j = 0; j < seen; j++)
            {
                double p = 0;
                for (int m = 0; m < d; m++)
                {
                    p += Math.Abs(problem.A3[(j * d) + m] - middle[m]) * mixed[m];
                }

                p *= f[j] / problem.Divisor;
                for (int k = 0; k < d; k++)
                {
                    queries[(i * d) + k] += p * Math.Abs(problem.A2[(j * d) + k] - centre[k]);
                    keys[(j * d) + k] += p * Math.Abs(q[(i * d) + k]);
                    values[(j * d) + k] += f[j] * c[k];
                }
            }
        }

        return (queries, keys, values);

        double Dot(double[] left, int row, double[] right, int other)
        {
            double dot = 0;
            for (int k = 0; k < d; k++)
            {
                dot += left[(row * d) + k] * right[(other * d) + k];
            }

            return dot;
        }
    }
}
