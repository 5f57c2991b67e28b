using System.Numerics;
using CsCheck;
using Experiments.Kernels.AttentionGradient;
using Experiments.Testing;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>Every gradient, under either scale and mask: reference against finite differences, exact against reference.</summary>
public sealed class GradientsTests(ITestOutputHelper log)
{
    private static readonly Gen<(int Seed, int N, int D, bool Causal, bool Root, double Logit)> Shapes = Gen.Select(
        Gen.Int[0, 1 << 20], Gen.Frequency((6, Gen.Int[1, 70]), (1, Gen.Int[129, 600])), Gen.Int[1, 13], Gen.Bool, Gen.Bool,
        Gen.OneOf(Gen.Const(1e-3), Gen.Const(1.0), Gen.Const(5.0), Gen.Const(30.0), Gen.Const(1e3)),
        (seed, n, d, causal, root, logit) => (seed, n, n > 100 ? Math.Min(d, 4) : d, causal, root, logit));

    [Fact]
    public void Exact_gives_every_gradient_that_reference_gives()
    {
        Dictionary<string, double> worst = [];
        Shapes.SampleFixed(x => { Judge<double>(x, worst); Judge<float>(x, worst); }, 60);
        foreach ((string what, double ratio) in worst)
        {
            log.WriteLine($"{what}: {ratio:G3} of the bar at worst");
        }

        Assert.All(worst, w => Assert.True(w.Value < 1, $"{w.Key}: {w.Value:G3} of the bar"));
    }

    [Theory]
    [InlineData(false, LogitScale.D)]
    [InlineData(true, LogitScale.D)]
    [InlineData(false, LogitScale.SqrtD)]
    [InlineData(true, LogitScale.SqrtD)]
    public void Reference_gives_the_derivative_of_its_own_loss_in_every_matrix(bool causal, LogitScale scale)
    {
        AttentionProblem<double> problem = With(Problems.Random(11, 9, 3, 2), causal, scale);
        GradientOutput<double> output = All<double>(problem);
        BuiltIn.Kernel("reference").Compute(problem, Settings.None, output, KernelContext.Default);
        Assert.Equal(0, Differences(problem, problem.X, output.DX), 1e-6);
        Assert.Equal(0, Differences(problem, problem.Y, output.DY), 1e-6);
        Assert.Equal(0, Differences(problem, problem.A2, output.DK!), 1e-6);

        // dA1 = dQ Xᵀ and dA3 = dV Yᵀ: what stands in front of a product sees its gradient through it.
        Assert.Equal(0, Differences(problem, problem.A1, Through(output.DQ!, problem.X, 9, 3)), 1e-6);
        Assert.Equal(0, Differences(problem, problem.A3, Through(output.DV!, problem.Y, 9, 3)), 1e-6);
    }

    [Fact]
    public void A_causal_row_sees_no_later_key()
    {
        AttentionProblem<double> problem = With(Problems.Random(3, 60, 4, 3), causal: true, LogitScale.D);
        GradientOutput<double> before = Run(problem);
        for (int i = 40 * 4; i < 60 * 4; i++)
        {
            problem.A2[i] = 7;
            problem.A3[i] = -9;
        }

        GradientOutput<double> after = Run(problem);
        for (int i = 0; i < 40 * 4; i++)
        {
            Assert.Equal(before.Forward[i], after.Forward[i], 1e-12);
            Assert.Equal(before.DQ![i], after.DQ![i], 1e-12);
        }

        Assert.NotEqual(before.Forward[41 * 4], after.Forward[41 * 4], 1e-3);
    }

    /// <summary>Values far from 0, and targets that are the forward output but for its rounding: c is a few millionths of either, and
    /// what a plain sum of the mean's part would lose is all there is.</summary>
    [Fact]
    public void Exact_in_float32_keeps_the_digits_of_targets_that_are_the_rounded_forward_output()
    {
        AttentionProblem<double> drawn = Problems.Random(8, 90, 3, 0.3);
        for (int i = 0; i < drawn.A3.Length; i++)
        {
            drawn.A3[i] += 1000;
        }

        AttentionProblem<float> problem = drawn.To<float>();
        GradientOutput<double> before = All(problem.To<double>());
        BuiltIn.Kernel("reference").Compute(problem.To<double>(), Settings.None, before, KernelContext.Default);
        before.Forward.CopyTo(drawn.E, 0);
        problem = drawn.To<float>();
        GradientOutput<double> gold = All(problem.To<double>());
        BuiltIn.Kernel("reference").Compute(problem.To<double>(), Settings.None, gold, KernelContext.Default);
        double error = Problems.Error(Run(problem).DX, gold.DX);
        log.WriteLine($"{error:G3}");
        Assert.True(error < 0.02, $"{error:G3}");
    }

    /// <summary>Whatever the rows beside it in its block: with n keys in sight none of them could dominate, with one that one does.</summary>
    [Fact]
    public void A_row_that_sees_one_key_has_exactly_no_gradient_by_its_query()
    {
        foreach (double logit in (double[])[0.01, 30])
        {
            AttentionProblem<double> problem = With(Problems.Random(6, 600, 3, logit), causal: true, LogitScale.D);
            Assert.All(Run(problem).DQ!.Take(3), g => Assert.Equal(0, g));
            Assert.All(Run(problem.To<float>()).DQ!.Take(3), g => Assert.Equal(0, g));
        }
    }

    /// <summary>The longest key decides whether a row's largest logit has to be looked for, wherever the key stands.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(57)]
    [InlineData(99)]
    public void Exact_keeps_to_the_bar_with_one_key_a_thousand_times_as_long_as_the_others(int which)
    {
        const double Logit = 200;
        AttentionProblem<double> problem = Problems.Random(12, 100, 3, 1);
        for (int k = 0; k < 3; k++)
        {
            problem.A2[(which * 3) + k] *= 1000;
        }

        Problems.Scale(problem.A1, Logit / Problems.LargestLogit(problem));
        Assert.All(GradientBars.Ratios(problem, Run(problem), Logit), r => Assert.True(r.Ratio < 1, $"{r.What}: {r.Ratio:G3} of the bar"));
        AttentionProblem<float> single = problem.To<float>();
        Assert.All(GradientBars.Ratios(single, Run(single), Logit), r => Assert.True(r.Ratio < 1, $"{r.What}: {r.Ratio:G3} of the bar"));
    }

    [Fact]
    public void The_least_row_sum_is_that_of_all_rows_whichever_way_they_are_done()
    {
        foreach (int seed in (int[])[1, 2, 3, 4, 5, 6])
        {
            // All rows relative to their largest logit, some dominated and some not, in several blocks and chunks.
            AttentionProblem<double> problem = Problems.Random(seed, 200, 3, 15);
            double gold = Problems.Run("reference", problem).MinRowSumOverN;
            Assert.Equal(gold, Problems.Run("exact", problem).MinRowSumOverN, gold * 1e-12);
            Assert.Equal(gold, Problems.Run("exact", problem.To<float>()).MinRowSumOverN, gold * 1e-4);

            // And all as they are, for keys that are centred: the least is in any block of any chunk.
            AttentionProblem<double> narrow = Problems.Random(seed, 200, 3, 0.5);
            double[] q = Problems.Product(narrow.A1, narrow.X, 200, 3);
            double[] mean = [.. Enumerable.Range(0, 3).Select(k => Enumerable.Range(0, 200).Average(j => narrow.A2[(j * 3) + k]))];
            double least = Enumerable.Range(0, 200).Min(i => Enumerable.Range(0, 200).Average(
                j => Math.Exp(Enumerable.Range(0, 3).Sum(k => q[(i * 3) + k] * (narrow.A2[(j * 3) + k] - mean[k])) / 3)));
            Assert.Equal(least, Problems.Run("exact", narrow).MinRowSumOverN, 1e-12);
        }
    }

    [Fact]
    public void Every_gradient_has_the_same_bits_on_any_number_of_threads()
    {
        foreach (double logit in (double[])[1, 40])
        {
            AttentionProblem<float> problem = With(Problems.Random(5, 700, 5, logit), causal: true, LogitScale.SqrtD).To<float>();
            GradientOutput<float> one = Run(problem);
            foreach (int threads in (int[])[2, 3, 5])
            {
                GradientOutput<float> many = Run(problem, threads);
                Assert.Equal(one.DX, many.DX);
                Assert.Equal(one.DY, many.DY);
                Assert.Equal(one.DQ, many.DQ);
                Assert.Equal(one.DK, many.DK);
                Assert.Equal(one.DV, many.DV);
            }
        }
    }

    private static AttentionProblem<double> With(AttentionProblem<double> p, bool causal, LogitScale scale) =>
        new(p.N, p.D, p.A1, p.A2, p.A3, p.E, p.X, p.Y) { Causal = causal, Scale = scale };

    private static GradientOutput<T> All<T>(AttentionProblem<T> problem)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int length = problem.N * problem.D;
        return new(problem.N, problem.D) { DQ = new T[length], DK = new T[length], DV = new T[length] };
    }

    private static GradientOutput<T> Run<T>(AttentionProblem<T> problem, int threads = 1)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<T> output = All(problem);
        BuiltIn.Kernel("exact").Compute(problem, Settings.None, output, new(TestContext.Current.CancellationToken, threads));
        return output;
    }

    private static void Judge<T>(
        (int Seed, int N, int D, bool Causal, bool Root, double Logit) x, Dictionary<string, double> worst)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AttentionProblem<double> drawn = Problems.Random(x.Seed, x.N, x.D, x.Logit);
        AttentionProblem<T> problem = With(drawn, x.Causal, x.Root ? LogitScale.SqrtD : LogitScale.D).To<T>();
        foreach ((string what, double ratio) in GradientBars.Ratios(problem, Run(problem), x.Logit))
        {
            worst[what] = Math.Max(worst.GetValueOrDefault(what), ratio);
        }
    }

    private static double[] Through(double[] gradient, double[] matrix, int n, int d)
    {
        double[] transposed = new double[d * d];
        for (int i = 0; i < d * d; i++)
        {
            transposed[(i % d * d) + (i / d)] = matrix[i];
        }

        return Problems.Product(gradient, transposed, n, d);
    }

    /// <summary>Largest difference between a gradient and central differences of the loss over the entries of one matrix.</summary>
    private static double Differences(AttentionProblem<double> problem, double[] matrix, double[] gradient)
    {
        double worst = 0;
        for (int i = 0; i < matrix.Length; i++)
        {
            const double Step = 1e-5;
            double kept = matrix[i];
            matrix[i] = kept + Step;
            double above = Problems.Run("reference", problem).Loss;
            matrix[i] = kept - Step;
            double below = Problems.Run("reference", problem).Loss;
            matrix[i] = kept;
            worst = Math.Max(worst, Math.Abs(((above - below) / (2 * Step)) - gradient[i]));
        }

        return worst;
    }
}
