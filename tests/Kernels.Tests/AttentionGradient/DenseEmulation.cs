using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>What low-rank computes, without features: the polynomial on the dense logits, by Horner.</summary>
internal static class DenseEmulation
{
    /// <param name="a">Σ a_m s^m stands for exp in the softmax.</param>
    /// <param name="hat">Its place in the gradient is taken by the derivative of Σ hat_m s^m.</param>
    public static (double[] DX, double Loss) Compute(AttentionProblem<double> problem, double[] a, double[] hat, bool centred)
    {
        (GradientOutput<double> all, _) = All(problem, a, hat, centred);
        return (all.DX, all.Loss);
    }

    /// <summary>dX, dQ, F, the loss and the row sums; and the sums that dQ is, without the signs of their terms.</summary>
    public static (GradientOutput<double> Output, double[] Terms) All(AttentionProblem<double> problem, double[] a, double[] hat, bool centred)
    {
        int n = problem.N, d = problem.D;
        double[] q = Problems.Product(problem.A1, problem.X, n, d), h = Problems.Product(problem.A3, problem.Y, n, d);
        double[] keys = [.. problem.A2], slope = [.. hat.Skip(1).Select((c, m) => c * (m + 1))];
        for (int k = 0; k < d; k++)
        {
            double mean = centred ? Enumerable.Range(0, n).Average(j => problem.A2[(j * d) + k]) : 0;
            for (int j = 0; j < n; j++)
            {
                keys[(j * d) + k] = (keys[(j * d) + k] - mean) / problem.Divisor;
            }
        }

        GradientOutput<double> all = new(n, d) { DQ = new double[n * d], MinRowSumOverN = double.PositiveInfinity };
        double[] s = new double[n], c = new double[d], terms = new double[n * d];
        double loss = 0;
        for (int i = 0; i < n; i++)
        {
            double rowSum = 0, r = 0;
            Array.Clear(c);
            for (int j = 0; j < n; j++)
            {
                s[j] = Enumerable.Range(0, d).Sum(k => q[(i * d) + k] * keys[(j * d) + k]);
                double value = Horner(a, s[j]);
                rowSum += value;
                for (int k = 0; k < d; k++)
                {
                    c[k] += value * h[(j * d) + k];
                }
            }

            all.MinRowSumOverN = Math.Min(all.MinRowSumOverN, rowSum / n);
            all.NonPositiveRowSums += rowSum > 0 ? 0 : 1;
            for (int k = 0; k < d; k++)
            {
                double forward = all.Forward[(i * d) + k] = c[k] / rowSum;
                c[k] = forward - problem.E[(i * d) + k];
                r += c[k] * forward;
                loss += c[k] * c[k] / 2;
            }

            for (int j = 0; j < n; j++)
            {
                double p = Enumerable.Range(0, d).Sum(k => c[k] * h[(j * d) + k]) - r;
                p *= Horner(slope, s[j]) / rowSum;
                for (int k = 0; k < d; k++)
                {
                    all.DQ[(i * d) + k] += p * keys[(j * d) + k];
                    terms[(i * d) + k] += Math.Abs(p * keys[(j * d) + k]);
                }
            }

            for (int k = 0; k < d * d; k++)
            {
                all.DX[k] += problem.A1[(i * d) + (k / d)] * all.DQ[(i * d) + (k % d)];
            }
        }

        all.Loss = loss;
        return (all, terms);
    }

    private static double Horner(double[] coefficients, double x)
    {
        double sum = 0;
        for (int m = coefficients.Length - 1; m >= 0; m--)
        {
            sum = (sum * x) + coefficients[m];
        }

        return sum;
    }
}
