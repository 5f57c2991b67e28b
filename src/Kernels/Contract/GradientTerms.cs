using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Contract;

/// <summary>The largest entry that each gradient would have, were its terms added without their signs: of |a1 dQ|, |a3 dV|, |p κ|, |p q| and
/// |f c|. What is far smaller owes it to cancellation, which no arithmetic of its precision can follow.</summary>
internal readonly record struct GradientTerms(double DX, double DY, double DQ, double DK, double DV)
{
    public static GradientTerms Of(AttentionProblem<double> problem)
    {
        int n = problem.N, d = problem.D;
        double[] q = RandomProblem.Product(problem.A1, problem.X, n, d), h = RandomProblem.Product(problem.A3, problem.Y, n, d);
        double[] f = new double[n], c = new double[d], centre = new double[d], middle = new double[d], mixed = new double[d];
        double[] queries = new double[n * d], keys = new double[n * d], values = new double[n * d];
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

        return new(Absolute(problem.A1, queries, d), Absolute(problem.A3, values, d), queries.Max(), keys.Max(), values.Max());

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
}
