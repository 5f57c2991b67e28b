using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;

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

    /// <inheritdoc cref="RandomProblem.Draw"/>
    public static AttentionProblem<double> Random(int seed, int n, int d, double logit) => RandomProblem.Draw(seed, n, d, logit);

    public static void Scale(double[] values, double factor) => RandomProblem.Scale(values, factor);

    public static double LargestLogit(AttentionProblem<double> problem) => RandomProblem.LargestLogit(problem);

    public static double[] Logits(AttentionProblem<double> problem) => RandomProblem.Logits(problem);

    public static T[] Product<T>(T[] left, T[] right, int n, int d)
        where T : INumberBase<T> => RandomProblem.Product(left, right, n, d);

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

    /// <summary>E becomes F (1 + η), η of either sign and up to <paramref name="unmet"/>.</summary>
    public static AttentionProblem<double> Met(AttentionProblem<double> problem, double unmet)
    {
        double[] forward = Run("reference", problem).Forward, noise = Random(6, problem.N, problem.D, 1).E;
        double most = noise.Max(Math.Abs);
        for (int i = 0; i < forward.Length; i++)
        {
            problem.E[i] = forward[i] * (1 + (unmet * noise[i] / most));
        }

        return problem;
    }

    /// <inheritdoc cref="RandomProblem.Error"/>
    public static double Error<T>(T[] values, double[] gold, double leastScale = 0)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => RandomProblem.Error(values, gold, leastScale);

    public static Settings Set(params (string Name, object Value)[] values) =>
        new(values.ToDictionary(v => v.Name, v => v.Value));

    public static GradientOutput<T> Run<T>(
        string kernel, AttentionProblem<T> problem, Settings? settings = null, int threads = 1)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Run(BuiltIn.Kernel(kernel), problem, settings, threads);

    /// <summary>The same with room for every gradient.</summary>
    public static GradientOutput<T> RunAll<T>(
        string kernel, AttentionProblem<T> problem, Settings? settings = null, int threads = 1)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int length = problem.N * problem.D;
        GradientOutput<T> output = new(problem.N, problem.D) { DQ = new T[length], DK = new T[length], DV = new T[length] };
        BuiltIn.Kernel(kernel).Compute(
            problem, settings ?? Settings.None, output, new(TestContext.Current.CancellationToken, threads) { Statistics = true });
        return output;
    }

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
