using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>float32 does not drift with n: the bar of <see cref="AccuracyTests"/>, 1e-6 · max(20, L), holds where sums have many terms.</summary>
public sealed class ManyTokensTests(ITestOutputHelper log)
{
    private const double Bar = 1e-6 * 20;

    [Fact]
    public void Exact_in_float32_is_as_good_for_many_tokens_as_for_few()
    {
        double few = Exact(1024), many = Exact(24576);
        Assert.True(few < 0.1 * Bar && many < 0.1 * Bar, $"{few / Bar:G3} and {many / Bar:G3} of the bar");
        Assert.True(many < 3 * few, $"{few:G3} at n = 1024, {many:G3} at 24576");
    }

    [Fact]
    public void Low_rank_in_float32_is_as_good_for_a_million_tokens_as_for_few()
    {
        double few = LowRank(1024), many = LowRank(1 << 20);
        Assert.True(few < Bar && many < Bar, $"{few / Bar:G3} and {many / Bar:G3} of the bar");
        Assert.True(many < 3 * few, $"{few:G3} at n = 1024, {many:G3} at 1048576");
    }

    /// <summary>Some minutes, so not in the test command; AttentionGradient/README.md has what it found.</summary>
    [Fact(Explicit = true)]
    public void Exact_in_float32_is_within_the_bar_for_131072_tokens()
    {
        double most = Exact(131072);
        Assert.True(most < 0.1 * Bar, $"{most / Bar:G3} of the bar");
    }

    private double Exact(int n) => Compare("exact", n, 2, Settings.None, all: false);

    private double LowRank(int n) => Compare("low-rank", n, 2, Problems.Set(("degree", 4L)), all: true);

    /// <summary>The same kernel in float64 is the gold: it is held to the reference where that can be had.</summary>
    private double Compare(string kernel, int n, int d, Settings settings, bool all)
    {
        // Values that go with their keys, and off centre: sums that grow with n and do not only wander, and a gradient that does not
        // shrink as 1 / √n, as one of independent keys and values would.
        AttentionProblem<double> drawn = RandomProblem.Unscaled(7, n, d);
        for (int i = 0; i < n * d; i++)
        {
            drawn.A3[i] += drawn.A2[i] + 1;
            drawn.A1[i] += 0.5;
        }

        AttentionProblem<float> problem = drawn.To<float>();
        GradientOutput<double> gold = Run(problem.To<double>());
        GradientOutput<float> output = Run(problem);
        double dX = Problems.Error(output.DX, gold.DX), dQ = Problems.Error(output.DQ!, gold.DQ!);
        double forward = Problems.Error(output.Forward, gold.Forward), loss = Math.Abs(output.Loss - gold.Loss) / gold.Loss;
        log.WriteLine($"{kernel}, n = {n}, d = {d}: dX {dX:G3}, dQ {dQ:G3}, F {forward:G3}, loss {loss:G3}; the bar is {Bar:G3}");
        double most = new[] { dX, dQ, forward, loss }.Max();
        if (!all)
        {
            return most;
        }

        double dY = Problems.Error(output.DY, gold.DY), dK = Problems.Error(output.DK!, gold.DK!), dV = Problems.Error(output.DV!, gold.DV!);
        log.WriteLine($"  dY {dY:G3}, dK {dK:G3}, dV {dV:G3}");
        return new[] { most, dY, dK, dV }.Max();

        GradientOutput<T> Run<T>(AttentionProblem<T> with)
            where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
        {
            GradientOutput<T> result = new(n, d) { DQ = new T[n * d], DK = all ? new T[n * d] : null, DV = all ? new T[n * d] : null };
            BuiltIn.Kernel(kernel).Compute(with, settings, result, new(TestContext.Current.CancellationToken, 2));
            return result;
        }
    }
}
