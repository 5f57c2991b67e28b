using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests;

/// <summary>Problems to try kernels on, drawn from a seed, and the ways in which they are made hard.</summary>
internal static class Problems
{
    /// <summary>The deterministic problem whose numbers the mathematics was checked with, in any language.</summary>
    public static AttentionProblem<double> Golden()
    {
        return new(5, 3,
            Filled(5, (i, j) => Math.Sin(1 + (3 * i) + j)),
            Filled(5, (i, j) => Math.Cos(2 + (3 * i) + (5 * j))),
            Filled(5, (i, j) => Math.Sin(0.5 + (0.7 * i) + (1.3 * j))),
            Filled(5, (i, j) => 0.1 * Math.Cos((i * j) + 1)),
            Filled(3, (i, j) => 0.5 * Math.Cos(i + (2 * j))),
            Filled(3, (i, j) => Math.Sin(i - j) + (i == j ? 1 : 0)));

        static double[] Filled(int rows, Func<int, int, double> entry)
        {
            double[] matrix = new double[rows * 3];
            for (int i = 0; i < matrix.Length; i++)
            {
                matrix[i] = entry(i / 3, i % 3);
            }

            return matrix;
        }
    }

    /// <summary>Dense and random, X and Y too, with the largest |logit| scaled to about <paramref name="logit"/>.</summary>
    public static AttentionProblem<double> Random(int seed, int n, int d, double logit)
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

        AttentionProblem<double> problem = new(n, d, Matrix(n), Matrix(n), Matrix(n), Matrix(n), Matrix(d), Matrix(d));
        double largest = LargestLogit(problem);
        Scale(problem.A1, largest == 0 ? 1 : logit / largest);
        return problem;
    }

    public static void Scale(double[] values, double factor)
    {
        for (int i = 0; i < values.Length; i++)
        {
            values[i] *= factor;
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

    /// <summary>E becomes, row by row, the h of the row's largest logit, rounded: nothing is left of c but what the softmax
    /// gives to the other keys.</summary>
    public static void TargetTheLargestKey(AttentionProblem<double> problem)
    {
        int n = problem.N, d = problem.D;
        double[] s = Logits(problem), h = Product(problem.A3, problem.Y, n, d);
        for (int i = 0; i < n; i++)
        {
            int star = 0;
            for (int j = 1; j < n; j++)
            {
                star = s[(i * n) + j] > s[(i * n) + star] ? j : star;
            }

            Array.Copy(h, star * d, problem.E, i * d, d);
        }
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

    public static Settings Set(params (string Name, object Value)[] values) =>
        new(values.ToDictionary(v => v.Name, v => v.Value));

    public static GradientOutput<T> Run<T>(
        string kernel, AttentionProblem<T> problem, Settings? settings = null, int threads = 1)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Run(BuiltIn.Kernel(kernel), problem, settings, threads);

    public static GradientOutput<T> Run<T>(
        IGradientKernel kernel, AttentionProblem<T> problem, Settings? settings = null, int threads = 1)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<T> output = new(problem.N, problem.D);
        kernel.Compute(
            problem, settings ?? Settings.None, output, new(TestContext.Current.CancellationToken, threads) { Statistics = true });
        return output;
    }
}
