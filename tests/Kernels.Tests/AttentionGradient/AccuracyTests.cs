using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>The bar: an error below 2e-15 · max(20, L) in float64 and 1e-6 · max(20, L) in float32, relative to the largest
/// entry of the gradient, L being the largest |logit|; judged by <see cref="Oracle"/>.</summary>
public sealed class AccuracyTests(ITestOutputHelper log)
{
    private static readonly double[] LogitScales = [1e-6, 0.1, 1, 5, 20, 100, 400, 2000];

    public static TheoryData<string> Kinds =>
    [
        "dense", "largest key is the target", "near ties", "twin keys", "crowds of twins", "scales apart", "offset keys",
        "offset values", "one row far", "shapes",
    ];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Exact_and_reference_are_below_the_bar_with_room_to_spare(string kind)
    {
        Dictionary<string, (double Ratio, string Where)> worst = [];
        int instances = 0;
        for (int seed = 0; seed < 4; seed++)
        {
            foreach (double scale in LogitScales)
            {
                AttentionProblem<double> problem = Make(kind, seed, scale);
                string where = $"{kind} seed={seed} n={problem.N} d={problem.D} logit={scale}";
                Judge(problem, 2e-15, "float64", where, worst);
                Judge(problem.To<float>(), 1e-6, "float32", where, worst);
                instances++;
            }
        }

        foreach ((string subject, (double ratio, string where)) in worst.OrderBy(w => w.Key))
        {
            log.WriteLine($"{subject}: worst error {ratio:G3} of the bar, in {instances} instances; {where}");
            Assert.True(ratio < 0.7, $"{subject}: {ratio:G3} of the bar; {where}");
        }
    }

    [Theory]
    [InlineData(70, 64)]
    [InlineData(130, 16)]
    [InlineData(300, 3)]
    public void Exact_keeps_to_the_bar_at_larger_shapes_by_the_reference(int n, int d)
    {
        foreach (double scale in (double[])[1, 100, 3000])
        {
            AttentionProblem<double> problem = Problems.Random(n + d, n, d, scale);
            AttentionProblem<float> narrow = problem.To<float>();
            double bar = Math.Max(20, scale);
            double wide = Problems.Error(Problems.Run("exact", problem).DX, Problems.Run("reference", problem).DX);
            double single = Problems.Error(
                Problems.Run("exact", narrow).DX, Problems.Run("reference", narrow.To<double>()).DX);
            log.WriteLine($"n={n} d={d} logit={scale}: {wide / 2e-15 / bar:G3} and {single / 1e-6 / bar:G3} of the bar");
            Assert.True(wide < 1e-15 * bar, $"float64 {wide:G3} at logit {scale}");
            Assert.True(single < 0.5e-6 * bar, $"float32 {single:G3} at logit {scale}");
        }
    }

    /// <summary>Many keys are one key: a row that they share has, beside them, what e^−L leaves, and that is all of its gradient.</summary>
    [Theory]
    [InlineData(64, 4, 0)]
    [InlineData(400, 4, 0)]
    [InlineData(400, 8, 0)]
    [InlineData(200, 4, 1e-9)]
    public void Exact_keeps_to_the_bar_where_crowds_of_keys_are_equal_or_nearly_so(int n, int d, double apart)
    {
        foreach (double bound in (double[])[1, 2, 3, 4, 6, 8, 12])
        {
            AttentionProblem<double> problem = new CornerFamily().Draw(new(n, d, bound, 7, Settings.None));
            for (int i = 0; i < n * d; i++)
            {
                problem.A2[i] *= 1 + (apart * Math.Sin(i));
            }

            AttentionProblem<float> narrow = problem.To<float>();
            double bar = Math.Max(20, bound * bound);
            double wide = Problems.Error(Problems.Run("exact", problem).DX, Problems.Run("reference", problem).DX);
            double single = Problems.Error(
                Problems.Run("exact", narrow).DX, Problems.Run("reference", narrow.To<double>()).DX);
            log.WriteLine($"n={n} d={d} B={bound}: {wide / 2e-15 / bar:G3} and {single / 1e-6 / bar:G3} of the bar");
            Assert.True(wide < 2e-15 * bar, $"float64 {wide:G3} at B = {bound}");
            Assert.True(single < 1e-6 * bar, $"float32 {single:G3} at B = {bound}");
        }
    }

    /// <summary>Half of the keys are one key, which has nearly all of every row, and its values differ: p of either sign cancels over them, and dQ
    /// is what a key or ten slightly above them add. No key ties for the largest logit.</summary>
    [Theory]
    [InlineData(128, 10, 0.2, 1)]
    [InlineData(512, 10, 0.2, 1)]
    [InlineData(512, 30, 0.2, 1)]
    [InlineData(512, 4, 0.2, 3)]
    [InlineData(512, 10, 0.05, 1)]
    [InlineData(512, 10, 1, 10)]
    public void Exact_keeps_to_the_bar_where_a_crowd_of_equal_keys_lies_below_the_largest(int n, double logit, double below, int above)
    {
        const int D = 4;
        AttentionProblem<double> drawn = Problems.Random(3, n, D, 1);
        double[] a1 = new double[n * D], a2 = new double[n * D], x = new double[D * D];
        for (int k = 0; k < D; k++)
        {
            x[(k * D) + k] = D;
        }

        for (int i = 0; i < n; i++)
        {
            // Queries and keys along one direction, so that the crowd is every row's.
            a1[i * D] = 1;
            a2[i * D] = i < above ? logit + below : i < n / 2 ? logit : -logit;
            for (int k = 1; k < D; k++)
            {
                a1[(i * D) + k] = 1e-3 * drawn.A1[(i * D) + k];
                a2[(i * D) + k] = i >= n / 2 ? drawn.A2[(i * D) + k] : 0;
            }
        }

        AttentionProblem<double> problem = new(n, D, a1, a2, drawn.A3, drawn.E, x, drawn.Y);
        Hold(problem, 2e-15 * Math.Max(20, logit));
        Hold(problem.To<float>(), 1e-6 * Math.Max(20, logit));

        void Hold<T>(AttentionProblem<T> part, double bar)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            GradientOutput<T> output = new(n, D) { DQ = new T[n * D], DK = new T[n * D], DV = new T[n * D] };
            GradientOutput<double> gold = new(n, D) { DQ = new double[n * D], DK = new double[n * D], DV = new double[n * D] };
            BuiltIn.Kernel("exact").Compute(part, Settings.None, output, KernelContext.Default);
            BuiltIn.Kernel("reference").Compute(part.To<double>(), Settings.None, gold, KernelContext.Default);
            foreach ((string what, T[] values, double[] right) in ((string, T[], double[])[])[
                ("dX", output.DX, gold.DX), ("dQ", output.DQ!, gold.DQ!), ("dK", output.DK!, gold.DK!), ("dV", output.DV!, gold.DV!)])
            {
                double error = Problems.Error(values, right) / bar;
                log.WriteLine($"{what} in {typeof(T).Name}: {error:G3} of the bar");
                Assert.True(error < 1, $"{what} in {typeof(T).Name}: {error:G3} of the bar");
            }
        }
    }

    /// <summary>One value that no row gives weight to, and that a mean of the values would follow.</summary>
    [Theory]
    [InlineData(1e4)]
    [InlineData(1e6)]
    [InlineData(1e9)]
    public void Exact_keeps_to_the_bar_with_one_value_far_from_the_others_at_a_key_without_weight(double far)
    {
        const int N = 100, D = 2;
        AttentionProblem<double> problem = Problems.Random(11, N, D, 1);
        double[] a1 = [.. Enumerable.Repeat(1.0, N * D)];
        for (int k = 0; k < D; k++)
        {
            // Every query alike, and key 7 so far below the others that its weight is 1e-13.
            problem.A2[(7 * D) + k] = -30;
            problem.A3[(7 * D) + k] = far;
        }

        problem = new(N, D, [.. a1.Select((x, i) => x + (0.1 * problem.A1[i]))], problem.A2, problem.A3, problem.E, [1, 0, 0, 1], problem.Y);
        double wide = Problems.Error(Problems.Run("exact", problem).DX, Problems.Run("reference", problem).DX) / (2e-15 * 33);
        AttentionProblem<float> narrow = problem.To<float>();
        double single = Problems.Error(Problems.Run("exact", narrow).DX, Problems.Run("reference", narrow.To<double>()).DX) / (1e-6 * 33);
        log.WriteLine($"{far:G3}: {wide:G3} and {single:G3} of the bar");
        Assert.True(wide < 1, $"float64: {wide:G3} of the bar");
        Assert.True(single < 1, $"float32: {single:G3} of the bar");
    }

    /// <summary>Under a mask rows see what comes before them only: later keys and values, however long, take no digits from them.</summary>
    [Theory]
    [InlineData(96, 4, 0.5)]
    [InlineData(200, 3, 0.9)]
    [InlineData(300, 8, 0.25)]
    public void Exact_keeps_to_the_bar_under_a_mask_where_later_keys_and_values_are_longer(int n, int d, double from)
    {
        foreach (double longer in (double[])[1e2, 1e4, 1e6])
        {
            foreach (bool values in (bool[])[false, true])
            {
                AttentionProblem<double> problem = Problems.Random(n, n, d, 1).With(LogitScale.D, causal: true);
                for (int i = (int)(from * n) * d; i < n * d; i++)
                {
                    // Their own rows have no share of dX that would hide the others'.
                    problem.A2[i] *= longer;
                    problem.A3[i] *= values ? longer : 1;
                    problem.A1[i] = 0;
                }

                double bar = 20;
                AttentionProblem<float> narrow = problem.To<float>();
                double wide = Problems.Error(Problems.Run("exact", problem).DX, Problems.Run("reference", problem).DX) / 2e-15 / bar;
                double single = Problems.Error(
                    Problems.Run("exact", narrow).DX, Problems.Run("reference", narrow.To<double>()).DX) / 1e-6 / bar;
                log.WriteLine($"n={n} d={d} longer={longer} values {values}: {wide:G3} and {single:G3} of the bar");
                Assert.True(wide < 0.7, $"float64, {longer} times: {wide:G3} of the bar");
                Assert.True(single < 0.7, $"float32, {longer} times: {single:G3} of the bar");
            }
        }
    }

    /// <summary>One column: a single number that rows of either sign make up, and keys that lie to one side of the largest.</summary>
    [Fact]
    public void Exact_keeps_to_the_bar_at_the_median_with_room_to_spare_where_rows_and_keys_cancel()
    {
        List<double> wide = [], single = [];
        for (int seed = 0; seed < 31; seed++)
        {
            AttentionProblem<double> problem = Problems.Random(seed, 300, 1, 0.1);
            AttentionProblem<float> narrow = problem.To<float>();
            wide.Add(Problems.Error(Problems.Run("exact", problem).DX, Problems.Run("reference", problem).DX) / 4e-14);
            single.Add(Problems.Error(
                Problems.Run("exact", narrow).DX, Problems.Run("reference", narrow.To<double>()).DX) / 2e-5);
        }

        log.WriteLine($"median {wide.Order().ElementAt(15):G3} and {single.Order().ElementAt(15):G3} of the bar");
        Assert.True(wide.Order().ElementAt(15) < 0.06, $"float64 {wide.Order().ElementAt(15):G3}");
        Assert.True(single.Order().ElementAt(15) < 0.06, $"float32 {single.Order().ElementAt(15):G3}");
    }

    private static void Judge<T>(
        AttentionProblem<T> problem, double unit, string precision, string where,
        Dictionary<string, (double Ratio, string Where)> worst)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AttentionProblem<double> wide = problem.To<double>();
        (double[] gold, double loss) = Oracle.Compute(wide);
        double largest = gold.Max(Math.Abs);

        // Where the gradient itself is below the type's range there is nothing to be relative to.
        if (largest != 0 && largest < (typeof(T) == typeof(float) ? 1e-30 : 1e-280))
        {
            return;
        }

        double bar = unit * Math.Max(20, Problems.LargestLogit(wide));
        foreach (string kernel in (string[])["exact", "reference"])
        {
            GradientOutput<T> output = Problems.Run(kernel, problem);
            double ratio = Problems.Error(output.DX, gold) / bar;
            string subject = $"{kernel} {precision}";
            if (!worst.TryGetValue(subject, out (double Ratio, string) soFar) || !(ratio <= soFar.Ratio))
            {
                worst[subject] = (ratio, where);
            }

            Assert.True(Math.Abs(output.Loss - loss) <= bar * Math.Max(loss, 1e-300), $"{subject} loss; {where}");
        }
    }

    private static AttentionProblem<double> Make(string kind, int seed, double scale)
    {
        Random random = new((seed * 1000) + (int)(scale * 10));
        int n = random.Next(2, 18), d = random.Next(1, 10);
        if (kind == "shapes")
        {
            // One key, one column, many columns: larger ones are judged by reference, below.
            (n, d) = seed switch { 0 => (1, 3), 1 => (7, 1), 2 => (3, 33), _ => (20, 12) };
        }

        AttentionProblem<double> problem = Problems.Random(random.Next(), n, d, scale);
        int one = random.Next(n), two = (one + 1) % n;
        switch (kind)
        {
            case "largest key is the target":
                Problems.TargetTheLargestKey(problem);
                break;
            case "near ties":
                for (int k = 0; k < d; k++)
                {
                    problem.A2[(two * d) + k] = problem.A2[(one * d) + k] + (1e-9 * problem.A3[(one * d) + k]);
                }

                break;
            case "twin keys":
                for (int j = 0; j < n; j += 2)
                {
                    Array.Copy(problem.A2, j * d, problem.A2, Math.Min(j + 1, n - 1) * d, d);
                }

                break;
            case "crowds of twins":
                for (int j = 2; j < n; j++)
                {
                    Array.Copy(problem.A2, (j % 2) * d, problem.A2, j * d, d);
                }

                break;
            case "scales apart":
                Problems.Scale(problem.A1, 1e6);
                Problems.Scale(problem.A2, 1e-6);
                Problems.Scale(seed % 2 == 0 ? problem.A3 : problem.E, seed < 2 ? 1e6 : 1e-6);
                break;
            case "offset keys":
                for (int i = 0; i < n * d; i++)
                {
                    problem.A2[i] += 30;
                }

                Problems.Scale(problem.A1, scale / Math.Max(1e-300, Problems.LargestLogit(problem)));
                break;
            case "offset values":
                for (int i = 0; i < n * d; i++)
                {
                    problem.A3[i] += 1e5;
                }

                break;
            case "one row far":
                Problems.Scale(problem.A1, 1e-3);
                for (int k = 0; k < d; k++)
                {
                    problem.A1[(one * d) + k] *= 1e3;
                }

                break;
            default:
                break;
        }

        return problem;
    }
}
