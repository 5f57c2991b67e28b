using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests.AttentionGradient;

public sealed class GradientCallTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("exact")]
    [InlineData("low-rank")]
    public void Several_problems_have_the_bits_that_each_has_alone_whatever_the_number_of_threads(string kernel)
    {
        const int N = 67, D = 3, Parts = 5;
        Settings settings = Problems.Set(("degree", 4L));
        AttentionProblem<float>[] parts = [.. Enumerable.Range(0, Parts).Select(p => Problems.Random(p, N, D, 0.7).To<float>())];
        GradientOutput<float>[] alone = [.. parts.Select(p => Problems.Run(kernel, p, settings))];
        CallFacts expected = CallFacts.Of(alone);
        Assert.Equal(alone.Sum(o => o.Loss), expected.Loss);

        // Fewer threads than problems, as many, more, and numbers that leave some over for all threads together.
        foreach (int threads in (int[])[1, 2, 3, 5, 8])
        {
            GradientOutput<float>[] outputs = [.. parts.Select(_ => new GradientOutput<float>(N, D))];
            GradientCall.Compute(
                BuiltIn.Kernel(kernel), parts, settings, outputs, new(Cancellation, threads) { Statistics = true });
            for (int part = 0; part < Parts; part++)
            {
                Assert.Equal(alone[part].DX, outputs[part].DX);
                Assert.Equal(alone[part].Forward, outputs[part].Forward);
            }

            Assert.Equal(expected, CallFacts.Of(outputs));
        }
    }

    [Fact]
    public void Phases_are_told_unless_several_threads_would_tell_of_theirs_at_once()
    {
        List<string> Phases(int parts, int threads)
        {
            List<string> told = [];
            GradientCall.Compute(
                BuiltIn.Kernel("exact"), [.. Enumerable.Range(0, parts).Select(p => Problems.Random(p, 9, 2, 0.5))], Settings.None,
                [.. Enumerable.Range(0, parts).Select(_ => new GradientOutput<double>(9, 2))], new(Cancellation, threads, told.Add));
            return told;
        }

        List<string> one = Phases(1, 3);
        Assert.Contains("rows", one);
        Assert.Equal([.. one, .. one], Phases(2, 1));
        Assert.Empty(Phases(3, 3));
        Assert.Equal(one, Phases(4, 3));
    }

    [Fact]
    public void Facts_over_several_problems_are_the_sum_the_least_the_largest_and_the_root_mean_square()
    {
        GradientOutput<double> first = new(4, 2)
        {
            Loss = 1, MinRowSumOverN = 0.5, NonPositiveRowSums = 1, MaxLogit = 3, RmsLogit = 1, FittedRadius = 2, PredictedExpError = 1e-3,
            FittedDegree = 4,
        };
        GradientOutput<double> second = new(4, 2)
        {
            Loss = 2, MinRowSumOverN = 0.25, NonPositiveRowSums = 2, MaxLogit = 9, RmsLogit = 7, FittedRadius = 1, PredictedExpError = 1e-2,
            FittedDegree = 6,
        };

        Assert.Equal(new CallFacts(3, 0.25, 3, 9, 5, 2, 1e-2, 6), CallFacts.Of<double>([first, second]));
    }

    [Fact]
    public void A_problem_that_fails_is_named()
    {
        AttentionProblem<double> good = Problems.Random(1, 9, 2, 0.5), bad = Problems.Random(2, 9, 2, 0.5);
        bad.A2[3] = double.NaN;
        KernelFailure failure = Assert.Throws<KernelFailure>(() => GradientCall.Compute(
            BuiltIn.Kernel("exact"), [good, bad, good], Settings.None, [new(9, 2), new(9, 2), new(9, 2)], new(Cancellation, 2)));

        Assert.StartsWith("In problem 1 of 3: ", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_mask_is_refused_for_every_kernel_that_takes_none_and_done_by_the_others()
    {
        AttentionProblem<double> causal = Problems.Random(3, 12, 2, 0.5).With(LogitScale.D, causal: true);
        double[] gold = Problems.Run("reference", causal).DX;
        Assert.NotEqual(gold, Problems.Run("reference", causal.With(LogitScale.D, causal: false)).DX);
        Settings settings = Problems.Set(("degree", 2L), ("features", 8L), ("landmarks", 4L), ("seed", 1L));
        foreach (IGradientKernel kernel in BuiltIn.Kernels)
        {
            GradientOutput<double> output = new(12, 2);
            void Call() => GradientCall.Compute(kernel, [causal], settings, [output], new(Cancellation));
            if (kernel.TakesMask)
            {
                Call();
                Assert.True(Problems.Error(output.DX, gold) < 1e-12, kernel.Name);
                continue;
            }

            Assert.Equal(
                $"mask is causal, and {kernel.Name} takes no mask. Use mask: none, or exact or reference.",
                Assert.Throws<ArgumentException>(Call).Message);
            Assert.Throws<ArgumentException>(() => GradientCall.Predict(kernel, new(12, 2, 1, Causal: true), 8, 1, settings));
        }

        Assert.Equal(["reference", "exact"], BuiltIn.Kernels.Where(k => k.TakesMask).Select(k => k.Name));
    }

    [Fact]
    public void A_call_costs_its_problems_operations_and_the_state_that_is_held_at_once()
    {
        IGradientKernel exact = BuiltIn.Kernel("exact");
        KernelCost one = exact.Predict(1000, 8, 4, 1, Settings.None), two = exact.Predict(1000, 8, 4, 2, Settings.None);
        KernelCost Cost(int parts, int threads, bool causal = false) =>
            GradientCall.Predict(exact, new(1000, 8, parts, causal), 4, threads, Settings.None);

        Assert.Equal(one, Cost(1, 1));
        Assert.Equal(12 * one.Flops, Cost(12, 2).Flops);
        Assert.InRange(Cost(12, 1).StateBytes, one.StateBytes, one.StateBytes + (12 * 4096));
        Assert.InRange(Cost(12, 2).StateBytes, 2 * one.StateBytes, (2 * one.StateBytes) + (12 * 4096));
        Assert.InRange(Cost(2, 3).StateBytes, two.StateBytes, 2 * two.StateBytes);
        Assert.Equal(one.Flops * 1001 / 2000, Cost(1, 1, causal: true).Flops, 1.0);
    }
}
