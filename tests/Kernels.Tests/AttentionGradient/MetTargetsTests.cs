using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>Targets that are nearly met leave a residual c = F − E that F's rounding is large beside: <c>exact</c> sees it and takes twice the digits.</summary>
public sealed class MetTargetsTests(ITestOutputHelper log)
{
    private const string Precise = "twice the digits";

    [Theory]
    [InlineData(30, 6)]
    [InlineData(100, 1)]
    [InlineData(101, 2)]
    [InlineData(400, 2)]
    [InlineData(130, 16)]
    [InlineData(70, 64)]
    public void Exact_keeps_to_the_bar_however_nearly_the_targets_are_met(int n, int d)
    {
        foreach (double logit in (double[])[0.1, 3, 100, 2000])
        {
            foreach (double unmet in (double[])[1, 0.1, 0.03, 0.01, 1e-3, 1e-6, 1e-12])
            {
                AttentionProblem<double> problem = Problems.Met(Problems.Random(n + d, n, d, logit), unmet);
                Hold(problem, 2e-15 * Math.Max(20, logit), $"logit={logit} unmet={unmet}");
                Hold(problem.To<float>(), 1e-6 * Math.Max(20, logit), $"logit={logit} unmet={unmet}");
            }
        }
    }

    [Theory]
    [InlineData(1e-2)]
    [InlineData(1e-7)]
    public void Every_gradient_is_as_good_under_a_mask_as_without_one(double unmet)
    {
        const int N = 83, D = 5;
        foreach (bool causal in (bool[])[false, true])
        {
            AttentionProblem<double> problem = Problems.Met(Problems.Random(4, N, D, 3).With(LogitScale.SqrtD, causal), unmet);
            Hold(problem, 4e-14);
            Hold(problem.To<float>(), 2e-5);
        }

        void Hold<T>(AttentionProblem<T> problem, double bar)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            GradientOutput<T> output = new(N, D) { DQ = new T[N * D], DK = new T[N * D], DV = new T[N * D] };
            GradientOutput<double> gold = new(N, D) { DQ = new double[N * D], DK = new double[N * D], DV = new double[N * D] };
            Assert.True(Compute(problem, output, 1));
            BuiltIn.Kernel("reference").Compute(problem.To<double>(), Settings.None, gold, KernelContext.Default);
            Assert.Equal(gold.Loss, output.Loss, bar * gold.Loss);
            foreach ((string what, T[] values, double[] right) in ((string, T[], double[])[])[
                ("dX", output.DX, gold.DX), ("dY", output.DY, gold.DY), ("F", output.Forward, gold.Forward), ("dQ", output.DQ!, gold.DQ!),
                ("dK", output.DK!, gold.DK!), ("dV", output.DV!, gold.DV!)])
            {
                double error = Problems.Error(values, right) / bar;
                log.WriteLine($"{what} in {typeof(T).Name}, causal {problem.Causal}: {error:G3} of the bar");
                Assert.True(error < 0.1, $"{what} in {typeof(T).Name}: {error:G3} of the bar");
            }
        }
    }

    [Fact]
    public void The_bits_do_not_depend_on_the_number_of_threads()
    {
        AttentionProblem<double> problem = Problems.Met(Problems.Random(8, 150, 3, 1), 1e-5);
        GradientOutput<double> one = new GradientOutput<double>(150, 3).AskingForAll();
        GradientOutput<double> three = new GradientOutput<double>(150, 3).AskingForAll();
        Assert.True(Compute(problem, one, 1) & Compute(problem, three, 3));
        Assert.Equal(one.DX, three.DX);
        Assert.Equal(one.DY, three.DY);
        Assert.Equal(one.DK, three.DK);
        Assert.Equal(one.DV, three.DV);
        Assert.Equal(one.Loss, three.Loss);
    }

    [Fact]
    public void A_sample_of_rows_keeps_to_the_bar_too()
    {
        const int N = 96, D = 4;
        AttentionProblem<double> problem = Problems.Met(Problems.Random(12, N, D, 2), 1e-6);
        int[] rows = [.. Enumerable.Range(0, N).Where(i => i % 5 == 2)];
        GradientOutput<double> sampled = new(rows.Length, D) { DQ = new double[rows.Length * D] }, gold = new(N, D) { DQ = new double[N * D] };
        new ExactRows(rows).Compute(problem, Settings.None, sampled, KernelContext.Default);
        BuiltIn.Kernel("reference").Compute(problem, Settings.None, gold, KernelContext.Default);
        double[] right = [.. rows.SelectMany(row => gold.DQ!.AsSpan(row * D, D).ToArray())];
        Assert.True(Problems.Error(sampled.DQ!, right) < 4e-15);
    }

    /// <summary>What is drawn for a sweep is done at full speed.</summary>
    [Theory]
    [InlineData("uniform")]
    [InlineData("gaussian")]
    [InlineData("corner")]
    [InlineData("planted")]
    public void No_instance_family_needs_twice_the_digits(string family)
    {
        foreach ((int n, int d) in ((int, int)[])[(16, 4), (64, 8), (400, 2), (512, 16), (1024, 64), (2048, 8), (256, 128)])
        {
            foreach (double bound in (double[])[0.1, 0.5, 1, 2, 4])
            {
                AttentionProblem<double> problem = BuiltIn.Family(family).Draw(new(n, d, bound, 3, Settings.None));
                Assert.False(Compute(problem, new GradientOutput<double>(n, d).AskingForAll(), 2), $"float64 n={n} d={d} B={bound}");
                Assert.False(Compute(problem.To<float>(), new GradientOutput<float>(n, d).AskingForAll(), 2), $"float32 n={n} d={d} B={bound}");

                // Of logits this small every row has nearly the same F, and nearly the same share of dX but for the sign.
                Array.Clear(problem.E);
                Assert.False(bound > 0.5 && Compute(problem.To<float>(), new(n, d), 2), $"no targets, n={n} d={d} B={bound}");
            }
        }
    }

    private void Hold<T>(AttentionProblem<T> problem, double bar, string where)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<T> output = new(problem.N, problem.D);
        bool precise = Compute(problem, output, 1);
        double error = Problems.Error(output.DX, Problems.Run("reference", problem.To<double>()).DX) / bar;
        log.WriteLine($"{typeof(T).Name} {where}: {error:G3} of the bar{(precise ? ", " + Precise : "")}");
        Assert.True(error < 0.7, $"{typeof(T).Name} {where}: {error:G3} of the bar");
    }

    /// <returns>Whether twice the digits were taken.</returns>
    private static bool Compute<T>(AttentionProblem<T> problem, GradientOutput<T> output, int threads)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        bool precise = false;
        new ExactGradient().Compute(
            problem, Settings.None, output,
            new(TestContext.Current.CancellationToken, threads, phase => precise |= phase == Precise));
        return precise;
    }
}
