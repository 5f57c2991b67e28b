using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.Rivals;

/// <summary>Threads, cancellation, bad numbers and bad settings, for every rival.</summary>
public sealed class RivalConductTests
{
    public static TheoryData<string> Rivals => ["dense-polynomial", "performer", "random-fourier", "nystrom"];

    [Theory]
    [MemberData(nameof(Rivals))]
    public void The_bits_do_not_depend_on_the_number_of_threads(string kernel)
    {
        // One chunk, several of rows, several of keys, and landmarks whose products are shared out among threads.
        foreach ((int n, int d, int m) in ((int, int, int)[])[(1, 3, 1), (65, 4, 8), (700, 5, 33), (2500, 2, 200)])
        {
            if (kernel == "random-fourier" && n == 1)
            {
                continue;
            }

            AttentionProblem<double> problem = new UniformFamily().Draw(new(n, d, 0.5, 3, Settings.None));
            GradientOutput<double> wide = Problems.Run(kernel, problem, Set(m));
            GradientOutput<float> narrow = Problems.Run(kernel, problem.To<float>(), Set(m));
            foreach (int threads in (int[])[2, 3, 5])
            {
                GradientOutput<double> other = Problems.Run(kernel, problem, Set(m), threads);
                Assert.Equal(wide.DX, other.DX);
                Assert.Equal(wide.Forward, other.Forward);
                Assert.Equal(wide.Loss, other.Loss);
                Assert.Equal(wide.MinRowSumOverN, other.MinRowSumOverN);
                Assert.Equal(narrow.DX, Problems.Run(kernel, problem.To<float>(), Set(m), threads).DX);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Rivals))]
    public void A_cancelled_call_stops(string kernel)
    {
        AttentionProblem<double> problem = new UniformFamily().Draw(new(300, 4, 0.5, 3, Settings.None));
        using CancellationTokenSource source = new();
        foreach (string at in (string[])["project", "rows"])
        {
            foreach (int threads in (int[])[1, 3])
            {
                KernelContext context = new(source.Token, threads, phase =>
                {
                    if (phase == at)
                    {
                        source.Cancel();
                    }
                });
                Assert.ThrowsAny<OperationCanceledException>(
                    () => BuiltIn.Kernel(kernel).Compute(problem, Set(16), new GradientOutput<double>(300, 4), context));
            }
        }
    }

    [Theory]
    [InlineData("performer", 1e4)]
    [InlineData("nystrom", 30)]
    public void Large_and_small_logits_give_a_finite_gradient(string kernel, double most)
    {
        foreach (double logit in (double[])[1e-6, 1, most])
        {
            AttentionProblem<double> problem = Problems.Random(4, 60, 3, logit);
            Assert.All(Problems.Run(kernel, problem, Set(16)).DX, g => Assert.True(double.IsFinite(g)));
            Assert.All(Problems.Run(kernel, problem.To<float>(), Set(16)).DX, g => Assert.True(float.IsFinite(g)));
        }
    }

    [Fact]
    public void A_row_sum_that_is_not_positive_is_a_failure_with_advice()
    {
        AttentionProblem<double> problem = new UniformFamily().Draw(new(200, 4, 4.0, 3, Settings.None));
        GradientOutput<double> output = new(200, 4);
        KernelFailure failure = Assert.Throws<KernelFailure>(
            () => BuiltIn.Kernel("random-fourier").Compute(problem, Set(16), output, KernelContext.Default));
        Assert.Contains("row sums are not positive", failure.Message);
        Assert.Contains("use performer", failure.Message);
        Assert.InRange(output.NonPositiveRowSums, 1, 200);
        Assert.True(output.MinRowSumOverN <= 0);
    }

    [Fact]
    public void An_axis_out_of_range_is_refused_with_what_is_needed()
    {
        Refused("performer", Settings.None, "given no features");
        Refused("performer", Problems.Set(("features", 0L)), "from 1 to");
        Refused("random-fourier", Problems.Set(("features", 7L)), "such as 8");
        Refused("nystrom", Problems.Set(("landmarks", 65L)), "at n = 64");
        Refused("nystrom", Problems.Set(("landmarks", 8L), ("iterations", 65L)), "from 1 to 64");
        Refused("dense-polynomial", Settings.None, "given no degree");
        Refused("dense-polynomial", Problems.Set(("degree", 25L)), "from 1 to 24");
        Refused("dense-polynomial", Problems.Set(("degree", 4L), ("radius", 30.0)), "up to 24");

        static void Refused(string kernel, Settings settings, string message) => Assert.Contains(
            message, Assert.Throws<ArgumentException>(() => BuiltIn.Kernel(kernel).Predict(64, 4, 8, 1, settings)).Message);
    }

    [Theory]
    [MemberData(nameof(Rivals))]
    public void A_prediction_covers_what_is_allocated_and_grows_as_the_cost_does(string kernel)
    {
        IGradientKernel rival = BuiltIn.Kernel(kernel);
        double order = rival.Predict(1 << 20, 8, 4, 1, Set(32)).Flops / rival.Predict(1 << 19, 8, 4, 1, Set(32)).Flops;
        Assert.Equal(kernel == "dense-polynomial" ? 4 : 2, order, 0.05);

        // Arrays come from a pool, so what a first call of a shape allocates is what it needs and at most twice as much.
        AttentionProblem<float> problem = new UniformFamily().Draw(new(3000, 6, 0.5, 9, Settings.None)).To<float>();
        GradientOutput<float> output = new(3000, 6);
        long before = GC.GetAllocatedBytesForCurrentThread();
        rival.Compute(problem, Set(48), output, KernelContext.Default);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(allocated <= 2.2 * rival.Predict(3000, 6, 4, 1, Set(48)).StateBytes, $"{allocated}");
    }

    private static Settings Set(int m) => Problems.Set(
        ("features", Math.Max(2L, m + (m % 2))), ("landmarks", (long)m), ("degree", 4L), ("basis", "minimax"));
}
