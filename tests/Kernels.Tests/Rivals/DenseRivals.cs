using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests.Rivals;

/// <summary>What the rivals compute, typed plainly with n × n matrices and the same random vectors.</summary>
internal static class DenseRivals
{
    /// <param name="Added">The largest entry of the gradient if no term had cancelled another.</param>
    internal sealed record Result(double[] DX, double Loss, double LeastRowSum, double Added);

    /// <summary>A kernel K(q, κ) and its gradient in q.</summary>
    internal delegate double Similarity(ReadOnlySpan<double> q, ReadOnlySpan<double> key, Span<double> gradient);

    /// <summary>(1/m) Σ_a e^(ω_a·q − ‖q‖²/2) e^(ω_a·κ − ‖κ‖²/2).</summary>
    public static Similarity Positive(double[] omega, int m) => (q, key, gradient) =>
    {
        int d = q.Length;
        double sum = 0;
        gradient.Clear();
        for (int a = 0; a < m; a++)
        {
            ReadOnlySpan<double> w = omega.AsSpan(a * d, d);
            double term = Math.Exp(Dot(w, q) - (Dot(q, q) / 2)) * Math.Exp(Dot(w, key) - (Dot(key, key) / 2)) / m;
            sum += term;
            for (int k = 0; k < d; k++)
            {
                gradient[k] += term * (w[k] - q[k]);
            }
        }

        return sum;
    };

    /// <summary>(2/m) Σ_a e^((‖q‖² + ‖κ‖²)/2) cos(ω_a·(q − κ)) over m/2 vectors.</summary>
    public static Similarity Fourier(double[] omega, int m) => (q, key, gradient) =>
    {
        int d = q.Length;
        double sum = 0, size = Math.Exp((Dot(q, q) + Dot(key, key)) / 2) * 2 / m;
        gradient.Clear();
        for (int a = 0; a < m / 2; a++)
        {
            ReadOnlySpan<double> w = omega.AsSpan(a * d, d);
            double angle = Dot(w, q) - Dot(w, key);
            sum += size * Math.Cos(angle);
            for (int k = 0; k < d; k++)
            {
                gradient[k] += size * ((q[k] * Math.Cos(angle)) - (w[k] * Math.Sin(angle)));
            }
        }

        return sum;
    };

    /// <summary>Gradient and loss with e^s replaced by K of q = A1 X / √d and κ = (A2 − mean) / √d.</summary>
    public static Result OfKernel(
        AttentionProblem<double> problem, Similarity similarity, bool centred)
    {
        int n = problem.N, d = problem.D;
        (double[] q, double[] keys) = Scaled(problem, centred);
        double[] h = Problems.Product(problem.A3, problem.Y, n, d);
        double[] values = new double[n * n], slopes = new double[n * n * d];
        double[] dX = new double[d * d], added = new double[d * d];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                values[(i * n) + j] = similarity(
                    q.AsSpan(i * d, d), keys.AsSpan(j * d, d), slopes.AsSpan(((i * n) + j) * d, d));
            }
        }

        double loss = 0, least = double.PositiveInfinity;
        for (int i = 0; i < n; i++)
        {
            double rowSum = Enumerable.Range(0, n).Sum(j => values[(i * n) + j]);
            double[] forward = [.. Enumerable.Range(0, d).Select(
                k => Enumerable.Range(0, n).Sum(j => values[(i * n) + j] * h[(j * d) + k]) / rowSum)];
            double[] c = [.. forward.Select((f, k) => f - problem.E[(i * d) + k])];
            least = Math.Min(least, rowSum);
            loss += Dot(c, c) / 2;
            for (int j = 0; j < n; j++)
            {
                double p = (Dot(c, h.AsSpan(j * d, d)) - Dot(c, forward)) / rowSum;
                for (int k = 0; k < d * d; k++)
                {
                    double slope = problem.A1[(i * d) + (k / d)] * slopes[(((i * n) + j) * d) + (k % d)] / Math.Sqrt(d);
                    dX[k] += p * slope;
                    added[k] += Math.Abs(slope) * (Size(c, h.AsSpan(j * d, d)) + Size(c, forward)) / rowSum;
                }
            }
        }

        return new Result(dX, loss, least, added.Max());
    }

    /// <summary>The loss of Nyström attention with its matrices written out.</summary>
    public static double NystromLoss(AttentionProblem<double> problem, double[] x, int m, int iterations)
    {
        int n = problem.N, d = problem.D;
        AttentionProblem<double> moved = new(n, d, problem.A1, problem.A2, problem.A3, problem.E, x, problem.Y);
        (double[] q, double[] keys) = Scaled(moved, centred: false);
        double[] meanQ = Means(q, n, d, m), meanKey = Means(keys, n, d, m), h = Problems.Product(problem.A3, problem.Y, n, d);
        double[] left = Softmax(q, n, meanKey, m, d), a = Softmax(meanQ, m, meanKey, m, d), right = Softmax(meanQ, m, keys, n, d);
        double[] f = Times(Times(left, n, Inverse(a, m, iterations), m, m), n, right, m, n), output = Times(f, n, h, n, d);
        return output.Zip(problem.E).Sum(pair => (pair.First - pair.Second) * (pair.First - pair.Second)) / 2;
    }

    /// <summary>The gradient of that loss by differences of fourth order.</summary>
    public static double[] NystromGradient(AttentionProblem<double> problem, int m, int iterations)
    {
        double[] gradient = new double[problem.X.Length];
        for (int i = 0; i < gradient.Length; i++)
        {
            double At(double step)
            {
                double[] x = [.. problem.X];
                x[i] += step;
                return NystromLoss(problem, x, m, iterations);
            }

            const double Step = 2e-3;
            gradient[i] = ((8 * (At(Step) - At(-Step))) - (At(2 * Step) - At(-2 * Step))) / (12 * Step);
        }

        return gradient;
    }

    private static (double[] Q, double[] Keys) Scaled(AttentionProblem<double> problem, bool centred)
    {
        int n = problem.N, d = problem.D;
        double[] q = Problems.Product(problem.A1, problem.X, n, d), keys = [.. problem.A2];
        for (int k = 0; k < d; k++)
        {
            double mean = centred ? Enumerable.Range(0, n).Average(j => problem.A2[(j * d) + k]) : 0;
            for (int j = 0; j < n; j++)
            {
                keys[(j * d) + k] = (keys[(j * d) + k] - mean) / Math.Sqrt(d);
                q[(j * d) + k] /= Math.Sqrt(d);
            }
        }

        return (q, keys);
    }

    private static double[] Means(double[] rows, int n, int d, int m)
    {
        double[] means = new double[m * d];
        for (int a = 0; a < m; a++)
        {
            int first = a * n / m, end = (a + 1) * n / m;
            for (int k = 0; k < d; k++)
            {
                means[(a * d) + k] = Enumerable.Range(first, end - first).Average(i => rows[(i * d) + k]);
            }
        }

        return means;
    }

    private static double[] Softmax(double[] q, int rows, double[] keys, int columns, int d)
    {
        double[] result = new double[rows * columns];
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                result[(i * columns) + j] = Math.Exp(Dot(q.AsSpan(i * d, d), keys.AsSpan(j * d, d)));
            }

            double sum = Enumerable.Range(0, columns).Sum(j => result[(i * columns) + j]);
            for (int j = 0; j < columns; j++)
            {
                result[(i * columns) + j] /= sum;
            }
        }

        return result;
    }

    private static double[] Inverse(double[] a, int m, int iterations)
    {
        double heaviest = Enumerable.Range(0, m).Max(j => Enumerable.Range(0, m).Sum(i => a[(i * m) + j]));
        double[] z = new double[m * m];
        for (int i = 0; i < m * m; i++)
        {
            z[i] = a[(i % m * m) + (i / m)] / heaviest;
        }

        for (int t = 0; t < iterations; t++)
        {
            double[] p = Times(a, m, z, m, m);
            double[] w = Minus(15, Times(p, m, Minus(7, p), m, m));
            w = Minus(13, Times(p, m, w, m, m));
            z = [.. Times(z, m, w, m, m).Select(v => v / 4)];
        }

        return z;

        double[] Minus(double factor, double[] matrix) => [.. matrix.Select((v, i) => (i / m == i % m ? factor : 0) - v)];
    }

    private static double[] Times(double[] left, int rows, double[] right, int inner, int columns)
    {
        double[] product = new double[rows * columns];
        for (int i = 0; i < rows; i++)
        {
            for (int k = 0; k < inner; k++)
            {
                for (int j = 0; j < columns; j++)
                {
                    product[(i * columns) + j] += left[(i * inner) + k] * right[(k * columns) + j];
                }
            }
        }

        return product;
    }

    private static double Size(ReadOnlySpan<double> x, ReadOnlySpan<double> y)
    {
        double sum = 0;
        for (int k = 0; k < x.Length; k++)
        {
            sum += Math.Abs(x[k] * y[k]);
        }

        return sum;
    }

    private static double Dot(ReadOnlySpan<double> x, ReadOnlySpan<double> y)
    {
        double sum = 0;
        for (int k = 0; k < x.Length; k++)
        {
            sum += x[k] * y[k];
        }

        return sum;
    }
}
