using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.AttentionGradient;

public sealed class ExactRowsTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(30)]
    [InlineData(3000)]
    public void All_rows_have_the_bits_of_the_whole_and_some_have_the_wholes_rows(double logit)
    {
        foreach (bool causal in (bool[])[false, true])
        {
            foreach ((int n, int d) in ((int, int)[])[(1, 3), (47, 5), (300, 9)])
            {
                AttentionProblem<double> problem = Problems.Random(n, n, d, logit).With(LogitScale.SqrtD, causal);
                Compare(problem);
                Compare(problem.To<float>());
            }
        }
    }

    [Fact]
    public void Rows_that_are_not_there_or_out_of_order_and_outputs_of_another_shape_are_refused()
    {
        AttentionProblem<double> problem = Problems.Random(1, 10, 2, 1);
        foreach (int[] rows in (int[][])[[3, 10], [-1, 2], [4, 4], [5, 2]])
        {
            Assert.Throws<ArgumentException>(() => Run(problem, rows));
        }

        Assert.Throws<ArgumentException>(() => new ExactRows([1, 2]).Compute(
            problem, Settings.None, new GradientOutput<double>(10, 2), KernelContext.Default));
        Assert.Throws<ArgumentException>(() => new ExactRows([1, 2]).Compute(
            problem, Settings.None, new GradientOutput<double>(2, 2) { DK = new double[20] }, KernelContext.Default));
    }

    [Fact]
    public void A_sample_costs_its_share_of_the_operations()
    {
        KernelCost whole = new ExactGradient().Predict(1 << 17, 8, 8, 2, Settings.None);
        KernelCost sample = ExactRows.Predict(1 << 17, 1 << 12, 8, 8, 2);
        Assert.Equal(whole.Flops / 32, sample.Flops);
        Assert.True(sample.StateBytes < whole.StateBytes);
        Assert.Equal(sample, new ExactRows(new int[1 << 12]).Predict(1 << 17, 8, 8, 2, Settings.None));
    }

    [Fact]
    public void A_sample_is_the_keys_alone_ascending_and_fair()
    {
        InstanceRequest request = new(50, 2, 1, 77, Settings.None);
        int[] counts = new int[50];
        for (ulong key = 0; key < 2000; key++)
        {
            int[] rows = InstanceAxes.SampleRows(request with { Key = key }, 10);
            Assert.Equal(10, rows.Distinct().Count());
            Assert.Equal(rows.Order(), rows);
            foreach (int row in rows)
            {
                counts[row]++;
            }
        }

        // 400 are expected of each, with a standard deviation of 17.9.
        Assert.All(counts, c => Assert.InRange(c, 400 - 80, 400 + 80));
        Assert.Equal(InstanceAxes.SampleRows(request, 10), InstanceAxes.SampleRows(request with { Bound = 3 }, 10));
        Assert.Equal(Enumerable.Range(0, 50), InstanceAxes.SampleRows(request, 50));
        Assert.Throws<ArgumentException>(() => InstanceAxes.SampleRows(request, 51));
    }

    private static void Compare<T>(AttentionProblem<T> problem)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int d = problem.D;
        GradientOutput<T> whole = new(problem.N, d) { DQ = new T[problem.N * d] };
        new ExactGradient().Compute(problem, Settings.None, whole, KernelContext.Default with { Statistics = true });
        GradientOutput<T> all = Run(problem, [.. Enumerable.Range(0, problem.N)]);
        Assert.Equal(whole.DX, all.DX);
        Assert.Equal(whole.DY, all.DY);
        Assert.Equal(whole.DQ, all.DQ);
        Assert.Equal(whole.Forward, all.Forward);
        Assert.Equal((whole.Loss, whole.MaxLogit, whole.RmsLogit), (all.Loss, all.MaxLogit, all.RmsLogit));

        int[] rows = [.. Enumerable.Range(0, problem.N).Where(i => i * 2654435761 % 5 < 2)];
        GradientOutput<T> some = Run(problem, rows);
        double bar = typeof(T) == typeof(float) ? 1e-4 : 1e-12;
        Assert.True(Problems.Error(some.DQ!, Rows(whole.DQ!, rows, d)) < bar, $"dQ, n = {problem.N}, causal {problem.Causal}");
        Assert.True(Problems.Error(some.Forward, Rows(whole.Forward, rows, d)) < bar, $"F, n = {problem.N}, causal {problem.Causal}");
        foreach (int threads in (int[])[2, 5])
        {
            Assert.Equal(some.DX, Run(problem, rows, threads).DX);
        }
    }

    private static GradientOutput<T> Run<T>(AttentionProblem<T> problem, int[] rows, int threads = 1)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<T> output = new(rows.Length, problem.D) { DQ = new T[rows.Length * problem.D] };
        new ExactRows(rows).Compute(
            problem, Settings.None, output, new(TestContext.Current.CancellationToken, threads) { Statistics = true });
        return output;
    }

    private static double[] Rows<T>(T[] matrix, int[] rows, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        [.. rows.SelectMany(r => matrix.Skip(r * d).Take(d)).Select(v => double.CreateTruncating(v))];
}
