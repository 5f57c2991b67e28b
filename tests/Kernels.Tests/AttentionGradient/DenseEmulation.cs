using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>What low-rank computes, without features: the polynomial on the dense logits, by Horner.</summary>
internal static class DenseEmulation
{
    /// <param name="a">Σ a_m s^m stands for exp in the softmax.</param>
    /// <param name="hat">Its place in the gradient is taken by the derivative of Σ hat_m s^m.</param>
    public static (double[] DX, double Loss) Compute(AttentionProblem<double> problem, double[] a, double[] hat, bool centred)
    {
        int n = problem.N, d = problem.D;
        double[] q = Problems.Product(problem.A1, problem.X, n, d), h = Problems.Product(problem.A3, problem.Y, n, d);
        double[] keys = [.. problem.A2], slope = [.. hat.Skip(1).Select((c, m) => c * (m + 1))];
        for (int k = 0; k < d; k++)
        {
            double mean = centred ? Enumerable.Range(0, n).Average(j => problem.A2[(j * d) + k]) : 0;
            for (int j = 0; j < n; j++)
            {
                keys[(j * d) + k] = (keys[(j * d) + k] - mean) / d;
            }
        }

        double[] dX = new double[d * d], s = new double[n], c = new double[d];
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

            for (int k = 0; k < d; k++)
            {
                double forward = c[k] / rowSum;
                c[k] = forward - problem.E[(i * d) + k];
                r += c[k] * forward;
                loss += c[k] * c[k] / 2;
            }

            for (int j = 0; j < n; j++)
            {
                double p = Enumerable.Range(0, d).Sum(k => c[k] * h[(j * d) + k]) - r;
                for (int k = 0; k < d * d; k++)
                {
                    dX[k] += problem.A1[(i * d) + (k / d)] * Horner(slope, s[j]) * p * keys[(j * d) + (k % d)] / rowSum;
                }
            }
        }

        return (dX, loss);
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
