using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.AttentionGradient;

public sealed class SampledErrorsTests
{
    private const int N = 600, M = 150, Draws = 400;

    public static TheoryData<string, string> KernelsAndPrecisions() => new(
        from kernel in (string[])["low-rank", "performer", "nystrom", "random-fourier", "dense-polynomial"]
        from precision in (string[])["float32", "float64"]
        select (kernel, precision));

    [Theory]
    [MemberData(nameof(KernelsAndPrecisions))]
    public void With_every_row_in_the_sample_an_estimate_is_the_error_itself(string kernel, string precision)
    {
        AttentionProblem<double> problem = Drawn(N, 4);
        if (precision == "float32")
        {
            Whole<float>(kernel, problem);
        }
        else
        {
            Whole<double>(kernel, problem);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Estimates_scatter_around_the_error_as_their_standard_errors_say(bool single)
    {
        // One entry alone, whose error is far from 0 beside its scatter, so that its sign is never in doubt: each row's dQ is off
        // by its a1 on top of what degree 2 leaves.
        AttentionProblem<double> problem = Drawn(N, 1);
        (double Gradient, double Loss)[] scores = single ? Scores<float>(problem) : Scores<double>(problem);

        // Of 400 draws the mean of z has a standard deviation of 0.05, and that of z² one of 0.07 where z is normal. The draws are fixed.
        Assert.InRange(scores.Average(s => s.Gradient), -0.2, 0.2);
        Assert.InRange(scores.Average(s => s.Gradient * s.Gradient), 0.75, 1.3);
        Assert.InRange(scores.Average(s => s.Loss), -0.2, 0.2);
        Assert.InRange(scores.Average(s => s.Loss * s.Loss), 0.75, 1.3);
    }

    [Fact]
    public void The_largest_estimate_is_on_average_not_below_the_largest_error_and_above_it_by_some_standard_errors_at_most()
    {
        AttentionProblem<double> problem = Drawn(N, 4);
        GradientOutput<double> gold = Exact(problem), output = Run<double>("low-rank", problem);
        double error = Distance(output.DX, gold.DX), mean = 0, standard = 0;
        for (ulong draw = 0; draw < Draws; draw++)
        {
            SampledErrors errors = SampledErrors.Of([problem], [output], Answer(problem, gold, draw));
            mean += errors.Gradient / Draws;
            standard += errors.GradientStandardError / Draws;
            Assert.Equal(gold.DX.Max(Math.Abs), errors.GradientScale, 8 * errors.GradientStandardError);
        }

        // √(2 ln 2d²) = 2.63 at d = 4; Jensen's inequality from below.
        Assert.InRange(mean, error, error + (2.63 * standard));
    }

    [Fact]
    public void Several_problems_have_the_largest_error_and_the_sum_of_the_losses()
    {
        AttentionProblem<double>[] problems = [Drawn(N, 3), Drawn(N, 3, key: 5), Drawn(N, 3, key: 6)];
        GradientOutput<double>[] golds = [.. problems.Select(Exact)], outputs = [.. problems.Select(p => Run<double>("low-rank", p))];
        SampledAnswer[] answers = [.. problems.Zip(golds, (p, g) => Answer(p, g, 9))];
        SampledErrors[] alone = [.. problems.Select((p, i) => SampledErrors.Of([p], [outputs[i]], answers[i]))];
        SampledErrors all = SampledErrors.Of(
            problems, outputs, new(answers[0].Rows, [.. answers.Select(a => a.DQ[0])], [.. answers.Select(a => a.Forwards[0])]));

        SampledErrors worst = alone.MaxBy(e => e.Gradient);
        Assert.Equal((worst.Gradient, worst.GradientStandardError), (all.Gradient, all.GradientStandardError));
        Assert.Equal(alone.Sum(e => e.Loss), all.Loss, 12);
        Assert.Equal(Math.Sqrt(alone.Sum(e => e.LossStandardError * e.LossStandardError)), all.LossStandardError, 12);
        Assert.Equal(alone.Max(e => e.Forward), all.Forward);
    }

    [Fact]
    public void What_the_kernels_own_sum_is_off_by_is_known_without_a_sample()
    {
        AttentionProblem<double> problem = Drawn(N, 3);
        GradientOutput<double> gold = Exact(problem), output = Run<double>("exact", problem);
        output.DX[4] += 0.125;
        SampledErrors errors = SampledErrors.Of([problem], [output], Answer(problem, gold, 3));
        Assert.Equal(0.125, errors.Gradient, 12);
        Assert.Equal(0, errors.GradientStandardError, 12);
    }

    [Fact]
    public void A_kernel_without_dQ_has_no_error_of_the_gradient_and_the_others_all_the_same()
    {
        AttentionProblem<double> problem = Drawn(N, 3);
        GradientOutput<double> output = Run<double>("low-rank", problem);
        output.DQ![^1] = double.NaN;
        SampledErrors errors = SampledErrors.Of([problem], [output], Answer(problem, Exact(problem), 3));
        Assert.True(double.IsNaN(errors.Gradient));
        Assert.True(errors.Forward > 0);
        Assert.True(double.IsFinite(errors.Loss) && errors.LossStandardError > 0);
    }

    [Theory]
    [MemberData(nameof(KernelsAndPrecisions))]
    public void Asking_for_dQ_changes_no_bit_of_the_gradient(string kernel, string precision)
    {
        AttentionProblem<double> problem = Drawn(N, 4);
        if (precision == "float32")
        {
            Assert.Equal(Problems.Run(kernel, problem.To<float>(), Setting(kernel)).DX, Run<float>(kernel, problem).DX);
        }
        else
        {
            Assert.Equal(Problems.Run(kernel, problem, Setting(kernel)).DX, Run<double>(kernel, problem).DX);
        }
    }

    private static void Whole<T>(string kernel, AttentionProblem<double> problem)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<double> gold = Exact(problem);
        GradientOutput<T> output = Run<T>(kernel, problem);
        SampledErrors errors = SampledErrors.Of(
            [problem], [output], new([.. Enumerable.Range(0, N)], [gold.DQ!], [gold.Forward]));
        double scale = gold.DX.Max(Math.Abs);
        Assert.Equal(Distance(output.DX, gold.DX), errors.Gradient, 1e-12 * scale);
        Assert.Equal(scale, errors.GradientScale, 1e-12 * scale);
        Assert.Equal(0, errors.GradientStandardError);
        Assert.Equal(output.Loss - gold.Loss, errors.Loss, 1e-12 * gold.Loss);
        Assert.Equal(gold.Loss, errors.ExactLoss, 1e-12 * gold.Loss);
        Assert.Equal(Distance(output.Forward, gold.Forward), errors.Forward);
        Assert.Equal(gold.Forward.Max(Math.Abs), errors.ForwardScale);
    }

    private static (double Gradient, double Loss)[] Scores<T>(AttentionProblem<double> problem)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<double> gold = Exact(problem);
        GradientOutput<T> output = Run<T>("low-rank", problem);
        double sum = 0;
        for (int i = 0; i < N; i++)
        {
            double off = problem.A1[i];
            output.DQ![i] += T.CreateTruncating(off);
            sum += off * problem.A1[i];
        }

        output.DX[0] += T.CreateTruncating(sum);
        double error = double.CreateTruncating(output.DX[0]) - gold.DX[0];
        (double Gradient, double Loss)[] scores = new (double, double)[Draws];
        for (int draw = 0; draw < Draws; draw++)
        {
            SampledErrors errors = SampledErrors.Of([problem], [output], Answer(problem, gold, (ulong)draw));
            scores[draw] = (
                (errors.Gradient - Math.Abs(error)) / errors.GradientStandardError,
                (errors.Loss - (output.Loss - gold.Loss)) / errors.LossStandardError);
        }

        return scores;
    }

    private static AttentionProblem<double> Drawn(int n, int d, ulong key = 4) =>
        new UniformFamily().Draw(new(n, d, 1.5, key, Settings.None));

    private static Settings Setting(string kernel) => kernel switch
    {
        "low-rank" or "dense-polynomial" => Problems.Set(("degree", 2L)),
        "nystrom" => Problems.Set(("landmarks", 16L)),
        _ => Problems.Set(("features", 32L)),
    };

    private static GradientOutput<T> Run<T>(string kernel, AttentionProblem<double> problem)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<T> output = new GradientOutput<T>(problem.N, problem.D).Asking(new T[problem.N * problem.D]);
        BuiltIn.Kernel(kernel).Compute(
            problem.To<T>(), kernel == "exact" ? Settings.None : Setting(kernel), output, new(TestContext.Current.CancellationToken));
        return output;
    }

    private static GradientOutput<double> Exact(AttentionProblem<double> problem) => Run<double>("exact", problem);

    private static SampledAnswer Answer(AttentionProblem<double> problem, GradientOutput<double> gold, ulong draw)
    {
        int[] rows = InstanceAxes.SampleRows(new(problem.N, problem.D, null, draw, Settings.None), M);
        double[] Chosen(double[] matrix) => [.. rows.SelectMany(r => matrix.Skip(r * problem.D).Take(problem.D))];
        return new(rows, [Chosen(gold.DQ!)], [Chosen(gold.Forward)]);
    }

    private static double Distance<T>(T[] values, double[] gold)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        values.Zip(gold, (v, g) => Math.Abs(double.CreateTruncating(v) - g)).Max();
}
