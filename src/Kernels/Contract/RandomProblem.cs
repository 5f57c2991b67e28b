using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Contract;

/// <summary>Problems to try kernels on, drawn from a seed, and plain products and errors to judge by.</summary>
internal static class RandomProblem
{
    /// <summary>Dense and random, X and Y too, with the largest |logit| scaled to about <paramref name="logit"/>.</summary>
    public static AttentionProblem<double> Draw(int seed, int n, int d, double logit)
    {
        AttentionProblem<double> problem = Unscaled(seed, n, d);
        double largest = LargestLogit(problem);
        Scale(problem.A1, largest == 0 ? 1 : logit / largest);
        return problem;
    }

    /// <summary>Entries of all six matrices uniform in [−1, 1]: for shapes whose logits are too many to look at.</summary>
    public static AttentionProblem<double> Unscaled(int seed, int n, int d)
    {
        Random random = new(seed);
        double[] Matrix(int rows)
        {
            double[] matrix = new double[rows * d];
            for (int i = 0; i < matrix.Length; i++)
            {
                matrix[i] = (2 * random.NextDouble()) - 1;
            }

            return matrix;
        }

        return new(n, d, Matrix(n), Matrix(n), Matrix(n), Matrix(n), Matrix(d), Matrix(d));
    }

    public static void Scale(Span<double> values, double factor)
    {
        foreach (ref double value in values)
        {
            value *= factor;
        }
    }

    public static double LargestLogit(AttentionProblem<double> problem)
    {
        double largest = 0;
        foreach (double s in Logits(problem))
        {
            largest = Math.Max(largest, Math.Abs(s));
        }

        return largest;
    }

    public static double[] Logits(AttentionProblem<double> problem)
    {
        int n = problem.N, d = problem.D;
        double[] q = Product(problem.A1, problem.X, n, d), s = new double[n * n];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                for (int c = 0; c < d; c++)
                {
                    s[(i * n) + j] += q[(i * d) + c] * problem.A2[(j * d) + c] / d;
                }
            }
        }

        return s;
    }

    public static T[] Product<T>(T[] left, T[] right, int n, int d)
        where T : INumberBase<T>
    {
        T[] product = new T[n * d];
        for (int i = 0; i < n; i++)
        {
            for (int k = 0; k < d; k++)
            {
                for (int c = 0; c < d; c++)
                {
                    product[(i * d) + c] += left[(i * d) + k] * right[(k * d) + c];
                }
            }
        }

        return product;
    }

    /// <summary>Largest difference over the largest entry of the gold, or over <paramref name="leastScale"/> where that is
    /// more; where both are 0, the largest difference.</summary>
    public static double Error<T>(T[] values, double[] gold, double leastScale = 0)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double difference = 0, largest = leastScale;
        for (int i = 0; i < gold.Length; i++)
        {
            double off = Math.Abs(double.CreateTruncating(values[i]) - gold[i]);
            difference = double.IsNaN(off) ? double.PositiveInfinity : Math.Max(difference, off);
            largest = Math.Max(largest, Math.Abs(gold[i]));
        }

        return largest == 0 ? difference : difference / largest;
    }
}
