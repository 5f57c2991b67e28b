using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.Tests.AttentionGradient;

public sealed class LowRankGradientTests(ITestOutputHelper log)
{
    private static Settings Degree(int degree, string basis = "taylor", string form = "paper", bool centred = true) =>
        Problems.Set(("degree", (long)degree), ("basis", basis), ("form", form), ("centred", centred));

    private static IEnumerable<(string What, double[] Values)> Gradients(GradientOutput<double> output) =>
        [("dX", output.DX), ("dY", output.DY), ("dQ", output.DQ!), ("dK", output.DK!), ("dV", output.DV!)];

    [Theory]
    [InlineData("paper", 0.02708106953740964, -0.17319496137946533, -0.12533879204964601)]
    [InlineData("reverse", 0.02707367716359289, -0.17317500768849395, -0.12532007946065132)]
    public void The_golden_vector_is_reproduced_in_both_forms(string form, double first, double second, double third)
    {
        GradientOutput<double> output = Problems.Run("low-rank", Problems.Golden(), Degree(4, form: form, centred: false));
        Assert.Equal(first, output.DX[0], 1e-15);
        Assert.Equal(second, output.DX[1], 1e-15);
        Assert.Equal(third, output.DX[2], 1e-15);
        Assert.Equal(4.98437664305337, output.Loss, 1e-13);
    }

    [Theory]
    [InlineData("taylor", "paper")]
    [InlineData("taylor", "reverse")]
    [InlineData("minimax", "paper")]
    [InlineData("minimax", "reverse")]
    public void The_error_falls_with_the_degree_as_the_polynomial_s_own(string basis, string form)
    {
        AttentionProblem<double> problem = new UniformFamily().Draw(new(256, 4, 1.0, 2402, Settings.None));
        GradientOutput<double> gold = Problems.RunAll("exact", problem);
        double before = double.PositiveInfinity;
        foreach (int degree in (int[])[1, 2, 4, 6, 8, 10])
        {
            GradientOutput<double> output = Problems.RunAll("low-rank", problem, Degree(degree, basis, form));
            double error = Problems.Error(output.DX, gold.DX);
            log.WriteLine($"{basis} {form} {degree}: {error:G3}, exp {output.PredictedExpError:G3}");
            Assert.True(error < before);
            before = error;

            // n ‖A1‖ ‖A2‖ H (6 C + 4 H) ε is the proof's bound; cancellation leaves about the relative error of exp itself.
            // The reverse form is as good as the paper's of one degree less.
            double expError = form == "paper"
                ? output.PredictedExpError
                : ExpPolynomial.Taylor(Math.Max(1, degree - 1), output.FittedRadius).RelativeError;
            Assert.True(error < 10 * expError, $"degree {degree}: {error:G3} against {expError:G3}");
            foreach ((string what, double[] ours, double[] right) in Gradients(output).Zip(
                Gradients(gold), (one, other) => (one.What, one.Values, other.Values)))
            {
                double off = Problems.Error(ours, right);
                log.WriteLine($"  {what} {off:G3}");
                Assert.True(off < 10 * expError, $"{what}, degree {degree}: {off:G3} against {expError:G3}");
            }
        }

        Assert.True(before < 1e-9);
    }

    [Fact]
    public void The_error_grows_with_the_bound_as_its_power_2_g_plus_2()
    {
        double At(double bound)
        {
            AttentionProblem<double> problem = new UniformFamily().Draw(new(128, 4, bound, 7, Settings.None));
            return Problems.Error(Problems.Run("low-rank", problem, Degree(3)).DX, Problems.Run("exact", problem).DX);
        }

        double slope = Math.Log(At(0.5) / At(0.25)) / Math.Log(2);
        Assert.InRange(slope, 7, 9);
    }

    [Fact]
    public void Centring_undoes_an_offset_of_the_keys()
    {
        AttentionProblem<double> problem = new UniformFamily().Draw(new(200, 4, 1.0, 5, Settings.None));
        double[] gold = Problems.Run("exact", problem).DX;
        double plain = Problems.Error(Problems.Run("low-rank", problem, Degree(4)).DX, gold);
        for (int i = 0; i < problem.A2.Length; i++)
        {
            problem.A2[i] += 2;
        }

        double centred = Problems.Error(Problems.Run("low-rank", problem, Degree(4)).DX, gold);
        double uncentred = Problems.Error(Problems.Run("low-rank", problem, Degree(4, centred: false)).DX, gold);
        Assert.Equal(plain, centred, plain * 1e-6);
        Assert.True(uncentred > 20 * centred);
    }

    [Fact]
    public void The_default_is_the_paper_s_form_of_the_minimax_polynomial_with_centred_keys()
    {
        AttentionProblem<double> problem = Problems.Random(4, 40, 4, 1);
        Assert.Equal(
            Problems.Run("low-rank", problem, Degree(4, "minimax")).DX,
            Problems.Run("low-rank", problem, Problems.Set(("degree", 4L))).DX);
    }

    [Fact]
    public void The_radius_covers_every_logit_and_a_given_one_is_used()
    {
        for (int seed = 0; seed < 20; seed++)
        {
            AttentionProblem<double> problem = Problems.Random(seed, 30, 1 + (seed % 6), 2);
            GradientOutput<double> output = Problems.Run("low-rank", problem, Degree(4, "minimax", centred: false));
            Assert.InRange(output.FittedRadius, Problems.LargestLogit(problem), 30);
        }

        Settings given = Problems.Set(("degree", 4L), ("radius", 1.5));
        Assert.Equal(1.5, Problems.Run("low-rank", Problems.Random(1, 30, 3, 1), given).FittedRadius);
    }

    [Fact]
    public void A_row_sum_that_is_not_positive_is_a_failure_with_advice()
    {
        // Taylor of degree 1 is 1 + s: one key, far on the negative side of every query.
        AttentionProblem<double> problem = new(2, 1, [1, 1], [-3, -5], [1, 2], [0, 0], [1], [1]);
        GradientOutput<double> output = new(2, 1);
        KernelFailure failure = Assert.Throws<KernelFailure>(() => new LowRankGradient().Compute(
            problem, Degree(1, centred: false), output, KernelContext.Default));
        Assert.Equal(
            "2 of 2 row sums are not positive (least -6 at row 0); raise the degree, use basis minimax, or lower the bound.",
            failure.Message);
        Assert.Equal(2, output.NonPositiveRowSums);
        Assert.Equal(-3, output.MinRowSumOverN);
    }

    [Fact]
    public void A_bound_beyond_every_fit_is_a_failure_that_says_so()
    {
        KernelFailure failure = Assert.Throws<KernelFailure>(
            () => Problems.Run("low-rank", Problems.Random(1, 20, 3, 100), Problems.Set(("degree", 4L))));
        Assert.Contains("fits go up to 24", failure.Message);
    }

    [Theory]
    [InlineData(0, 4, "from 1 to 24")]
    [InlineData(25, 4, "from 1 to 24")]
    [InlineData(12, 64, "Lower the degree to")]
    [InlineData(24, 1000, "more than 2^63")]
    public void An_impossible_degree_is_refused_before_anything_is_computed(int degree, int d, string message)
    {
        LowRankGradient kernel = new();
        Assert.Contains(message, Assert.Throws<ArgumentException>(() => kernel.Predict(8, d, 8, 1, Degree(degree))).Message);
        double[] tall = new double[d], square = new double[d * d];
        AttentionProblem<double> problem = new(1, d, tall, tall, tall, tall, square, square);
        Assert.Throws<ArgumentException>(() => Problems.Run("low-rank", problem, Degree(degree)));
    }

    [Theory]
    [InlineData("paper")]
    [InlineData("reverse")]
    public void Float32_does_not_drift_with_the_number_of_tokens(string form)
    {
        AttentionProblem<float> problem =
            new UniformFamily().Draw(new(1 << 18, 3, 1.0, 31, Settings.None)).To<float>();
        GradientOutput<float> narrow = Problems.Run("low-rank", problem, Degree(4, form: form), 2);
        GradientOutput<double> wide = Problems.Run("low-rank", problem.To<double>(), Degree(4, form: form), 2);
        double error = Problems.Error([.. narrow.DX.Select(x => (double)x)], wide.DX);
        log.WriteLine($"{error:G3}, loss {(narrow.Loss / wide.Loss) - 1:G3}");

        // Measured: 4.9e-7 and 4.2e-7, which is what a few hundred tokens leave too.
        Assert.True(error < 4e-6, $"{error:G3}");
        Assert.Equal(wide.Loss, narrow.Loss, wide.Loss * 1e-6);
    }

    [Theory]
    [InlineData(3, 300)]
    [InlineData(9, 40)]
    [InlineData(12, 33)]
    public void The_scale_is_the_problem_s_and_the_gradient_by_queries_is_given_where_asked_for(int d, int n)
    {
        AttentionProblem<double> drawn = Problems.Random(d, n, d, 0.05);
        AttentionProblem<double> problem = new(n, d, drawn.A1, drawn.A2, drawn.A3, drawn.E, drawn.X, drawn.Y)
        {
            Scale = LogitScale.SqrtD,
        };
        GradientOutput<double> gold = new(n, d) { DQ = new double[n * d] }, output = new(n, d) { DQ = new double[n * d] };
        new ReferenceGradient().Compute(problem, Settings.None, gold, KernelContext.Default);
        new LowRankGradient().Compute(problem, Degree(5), output, KernelContext.Default);
        Assert.True(Problems.Error(output.DX, gold.DX) < 1e-6);
        Assert.True(Problems.Error(output.DQ, gold.DQ) < 1e-6);
    }

    [Theory]
    [InlineData("minimax", "paper")]
    [InlineData("minimax", "reverse")]
    [InlineData("taylor", "paper")]
    [InlineData("chebyshev", "paper")]
    public void An_automatic_degree_is_the_least_that_keeps_the_tolerance(string basis, string form)
    {
        AttentionProblem<double> problem = new UniformFamily().Draw(new(200, 3, 1.2, 5, Settings.None));
        double[] gold = Problems.Run("exact", problem).DX;
        int before = 0;
        foreach (double tolerance in (double[])[1e-2, 1e-4, 1e-6, 1e-9])
        {
            Settings settings =
                Problems.Set(("degree", "auto"), ("tolerance", tolerance), ("basis", basis), ("form", form));
            GradientOutput<double> output = Problems.Run("low-rank", problem, settings);
            int degree = (int)output.FittedDegree;
            Assert.True(degree > before);
            before = degree;
            Assert.True(output.PredictedExpError <= tolerance);
            GradientOutput<double> same = Problems.Run("low-rank", problem, Degree(degree, basis, form));
            Assert.Equal(same.DX, output.DX);
            Assert.True(degree == 1
                || Problems.Run("low-rank", problem, Degree(degree - 1, basis, form)).PredictedExpError > tolerance);

            // The reverse form is as good as the paper's of one degree less, whose exp is worse by about R / g.
            double error = Problems.Error(output.DX, gold);
            log.WriteLine($"{basis} {form} {tolerance}: degree {degree}, exp {output.PredictedExpError:G3}, dX {error:G3}");
            Assert.True(error < tolerance * (form == "paper" ? 10 : 100));
        }

        Assert.Equal(
            Problems.Run("low-rank", problem, Problems.Set(("degree", "auto"))).FittedDegree,
            Problems.Run("low-rank", problem, Problems.Set(("degree", "auto"), ("tolerance", 1e-6))).FittedDegree);
    }

    [Fact]
    public void A_prediction_of_an_automatic_degree_is_exact_for_a_given_radius_and_a_bound_else()
    {
        LowRankGradient kernel = new();
        Settings automatic = Problems.Set(("degree", "auto"));
        KernelCost given = kernel.Predict(1000, 3, 8, 1, Problems.Set(("degree", "auto"), ("radius", 2.0)));
        Assert.Equal(kernel.Predict(1000, 3, 8, 1, Degree(9, "minimax")), given);
        Assert.Equal(given, kernel.PredictWithin(1000, 3, 8, 1, automatic, 2));
        AttentionProblem<double> problem = new UniformFamily().Draw(new(200, 3, 1.2, 5, Settings.None));
        double degree = Problems.Run("low-rank", problem, automatic).FittedDegree;
        KernelCost ran = kernel.Predict(200, 3, 8, 1, Degree((int)degree, "minimax"));
        Assert.True(kernel.PredictWithin(200, 3, 8, 1, automatic, 2 * 1.2 * 1.2).Flops >= ran.Flops);
        Assert.Equal(kernel.Predict(200, 3, 8, 1, Degree(24, "minimax")), kernel.Predict(200, 3, 8, 1, automatic));
        Assert.True(kernel.Predict(200, 64, 8, 1, automatic).Flops > 0);
    }

    [Fact]
    public void An_automatic_degree_without_a_law_or_within_reach_is_refused_with_advice()
    {
        AttentionProblem<double> problem = Problems.Random(1, 30, 3, 12);
        Assert.Contains(
            "no law to choose by",
            Assert.Throws<ArgumentException>(() => Problems.Run(
                "low-rank", problem, Problems.Set(("degree", "auto"), ("basis", "hermite")))).Message);
        Assert.Contains(
            "a number above 0 and below 1",
            Assert.Throws<ArgumentException>(() => Problems.Run(
                "low-rank", problem, Problems.Set(("degree", "auto"), ("tolerance", 0.0)))).Message);
        Assert.Contains(
            "Raise the tolerance",
            Assert.Throws<KernelFailure>(() => Problems.Run(
                "low-rank", problem, Problems.Set(("degree", "auto"), ("tolerance", 1e-12)))).Message);
        Assert.Contains(
            "fits go up to 24",
            Assert.Throws<KernelFailure>(() => Problems.Run(
                "low-rank", Problems.Random(1, 30, 3, 80), Problems.Set(("degree", "auto")))).Message);
    }

    [Fact]
    public void Fits_to_the_logits_are_better_on_random_data_and_fail_on_corners()
    {
        AttentionProblem<double> random = new UniformFamily().Draw(new(512, 8, 2.0, 11, Settings.None));
        double[] gold = Problems.Run("exact", random).DX;
        double Of(string basis) => Problems.Error(Problems.Run("low-rank", random, Degree(6, basis)).DX, gold);
        (double taylor, double minimax, double hermite, double squares) = (Of("taylor"), Of("minimax"), Of("hermite"), Of("least-squares"));
        log.WriteLine($"taylor {taylor:G3} minimax {minimax:G3} hermite {hermite:G3} least-squares {squares:G3}");
        Assert.True(hermite < taylor / 2 && squares < taylor / 2 && taylor < minimax);

        // Logits that reach B² from both sides, far out in the tails of the normal distribution of their variance.
        AttentionProblem<double> corner = new CornerFamily().Draw(new(256, 4, 2.5, 3, Settings.None));
        KernelFailure failure = Assert.Throws<KernelFailure>(() => Problems.Run("low-rank", corner, Degree(3, "hermite")));
        Assert.Contains("not positive", failure.Message);
        Problems.Run("low-rank", corner, Degree(3, "minimax"));
    }

    [Fact]
    public void A_causal_problem_is_refused()
    {
        AttentionProblem<double> drawn = Problems.Random(1, 5, 2, 1);
        AttentionProblem<double> problem = new(5, 2, drawn.A1, drawn.A2, drawn.A3, drawn.E, drawn.X, drawn.Y) { Causal = true };
        Assert.Contains("causal", Assert.Throws<ArgumentException>(() => Problems.Run("low-rank", problem, Degree(2))).Message);
    }

    [Fact]
    public void A_state_too_large_for_many_copies_gives_the_same_bits_for_any_number_of_threads()
    {
        // Degree 9 at d = 8: 43758 monomials, so that the keys are in few parts and the columns are parted too.
        AttentionProblem<double> problem = new UniformFamily().Draw(new(1100, 8, 0.5, 3, Settings.None));
        GradientOutput<double> one = Problems.RunAll("low-rank", problem, Degree(9)), three = Problems.RunAll("low-rank", problem, Degree(9), 3);
        foreach ((double[] ours, double[] other, double[] right) in Gradients(one).Zip(
            Gradients(three), Gradients(Problems.RunAll("exact", problem))).Select(g => (g.First.Values, g.Second.Values, g.Third.Values)))
        {
            Assert.Equal(ours, other);
            Assert.True(Problems.Error(ours, right) < 1e-10);
        }
    }

    /// <summary>The polynomial is the same before and after, which the data decide in part where no radius is given.</summary>
    [Theory]
    [InlineData("taylor", true, LogitScale.D)]
    [InlineData("taylor", false, LogitScale.SqrtD)]
    [InlineData("minimax", true, LogitScale.SqrtD)]
    [InlineData("minimax", false, LogitScale.D)]
    [InlineData("chebyshev", true, LogitScale.D)]
    public void The_reverse_form_gives_the_derivative_of_its_own_loss_in_every_matrix(string basis, bool centred, LogitScale scale)
    {
        const int N = 9, D = 3;
        AttentionProblem<double> problem = Problems.Random(11, N, D, 0.8).With(scale, causal: false);
        for (int i = 0; i < N * D; i++)
        {
            // Away from 0, so that it matters whether the mean key moves with the keys.
            problem.A2[i] += 0.3;
        }

        Dictionary<string, object> values = new(Degree(3, basis, "reverse", centred).Values);
        if (basis != "taylor")
        {
            values["radius"] = 2.0;
        }

        Settings settings = new(values);
        GradientOutput<double> output = Problems.RunAll("low-rank", problem, settings);
        foreach ((string what, double[] matrix, double[] gradient) in ((string, double[], double[])[])
            [
                ("dX", problem.X, output.DX), ("dY", problem.Y, output.DY), ("dK", problem.A2, output.DK!),
                ("dQ", problem.A1, Through(output.DQ!, problem.X)), ("dV", problem.A3, Through(output.DV!, problem.Y)),
            ])
        {
            for (int i = 0; i < matrix.Length; i++)
            {
                const double Step = 1e-5;
                double kept = matrix[i];
                matrix[i] = kept + Step;
                double above = Problems.Run("low-rank", problem, settings).Loss;
                matrix[i] = kept - Step;
                double below = Problems.Run("low-rank", problem, settings).Loss;
                matrix[i] = kept;
                double difference = Math.Abs(((above - below) / (2 * Step)) - gradient[i]);
                Assert.True(difference < 1e-8, $"{what} is {difference:G3} off at {i}");
            }
        }

        // What stands in front of a product sees its gradient through it: dA1 = dQ Xᵀ.
        static double[] Through(double[] gradient, double[] matrix) => Problems.Product(
            gradient, [.. Enumerable.Range(0, D * D).Select(i => matrix[(i % D * D) + (i / D)])], N, D);
    }

    /// <summary>All are sums of the same p: Σ p_ij s_ij = ⟨Q, dQ⟩ = ⟨K − mean, dK⟩, and rows of p that sum to 0 leave Σ_j dK_j = 0.</summary>
    [Theory]
    [InlineData("minimax", "paper")]
    [InlineData("minimax", "reverse")]
    [InlineData("hermite", "paper")]
    [InlineData("least-squares", "reverse")]
    public void Gradients_are_sums_of_the_same_p(string basis, string form)
    {
        const int N = 120, D = 4;
        AttentionProblem<double> problem = Problems.Random(5, N, D, 1);
        GradientOutput<double> output = Problems.RunAll("low-rank", problem, Degree(3, basis, form));
        double[] q = Problems.Product(problem.A1, problem.X, N, D);
        double ofQueries = 0, ofKeys = 0, size = 0;
        for (int k = 0; k < D; k++)
        {
            double mean = Enumerable.Range(0, N).Average(j => problem.A2[(j * D) + k]), sum = 0, entries = 0;
            for (int i = 0; i < N; i++)
            {
                int at = (i * D) + k;
                ofQueries += q[at] * output.DQ![at];
                ofKeys += (problem.A2[at] - mean) * output.DK![at];
                size += Math.Abs(q[at] * output.DQ[at]);
                sum += output.DK[at];
                entries += Math.Abs(output.DK[at]);
            }

            Assert.True(Math.Abs(sum) < 1e-13 * entries, $"the keys' gradients sum to {sum:G3}, their entries to {entries:G3}");
        }

        Assert.Equal(ofQueries, ofKeys, 1e-12 * size);
        Assert.True(Math.Abs(ofQueries) > 1e-3 * size);
        double[] dX = [.. Enumerable.Range(0, D * D).Select(
            at => Enumerable.Range(0, N).Sum(i => problem.A1[(i * D) + (at / D)] * output.DQ![(i * D) + (at % D)]))];
        Assert.True(Problems.Error(output.DX, dX) < 1e-13);
    }

    [Fact]
    public void What_is_asked_for_changes_no_bit_of_the_rest_and_dY_comes_with_the_keys()
    {
        AttentionProblem<float> problem = Problems.Random(9, 150, 5, 0.7).To<float>();
        Settings settings = Degree(3, "minimax", "reverse");
        int length = 150 * 5;
        GradientOutput<float> all = Problems.RunAll("low-rank", problem, settings), plain = Problems.Run("low-rank", problem, settings);
        Assert.Equal(all.DX, plain.DX);
        Assert.Equal(all.Forward, plain.Forward);
        Assert.Equal(all.Loss, plain.Loss);
        Assert.All(plain.DY, g => Assert.Equal(float.NaN, g));
        GradientOutput<float> keys = new(150, 5) { DK = new float[length] }, values = new(150, 5) { DV = new float[length] };
        foreach (GradientOutput<float> some in (GradientOutput<float>[])[keys, values])
        {
            BuiltIn.Kernel("low-rank").Compute(problem, settings, some, KernelContext.Default);
            Assert.Equal(all.DY, some.DY);
            Assert.Equal(all.DX, some.DX);
        }

        Assert.Equal(all.DK, keys.DK);
        Assert.Equal(all.DV, values.DV);

        // An output that shares its matrices with one that asked for all.
        GradientOutput<float> more = plain.AskingForAll();
        BuiltIn.Kernel("low-rank").Compute(problem, settings, more, KernelContext.Default);
        Assert.Equal(all.DY, plain.DY);
        BuiltIn.Kernel("low-rank").Compute(problem, settings, plain, KernelContext.Default);
        Assert.All(plain.DY, g => Assert.Equal(float.NaN, g));
    }

    [Fact]
    public void A_prediction_names_the_rank_and_is_linear_in_n()
    {
        LowRankGradient kernel = new();
        KernelCost cost = kernel.Predict(1000, 4, 8, 1, Degree(4));
        Assert.Equal(70, cost.Rank);
        Assert.Equal(2, kernel.Predict(2000, 4, 8, 1, Degree(4)).Flops / cost.Flops, 1e-12);
        KernelCost all = kernel.Predict(1000, 4, 8, 1, Problems.Set(("degree", 4L), ("basis", "taylor"), ("gradients", "all")));
        Assert.InRange(all.Flops / cost.Flops, 1.9, 2);
        Assert.Equal(cost.Rank, all.Rank);
        Assert.InRange(all.StateBytes - cost.StateBytes, 1000 * 5 * 8, 1000 * 6 * 8);
        Assert.Throws<ArgumentException>(() => kernel.Predict(8, 4, 8, 1, Settings.None));
        Assert.Throws<ArgumentException>(() => kernel.Predict(8, 4, 8, 1, Degree(4, "tailor")));
        Assert.Throws<ArgumentException>(() => kernel.Predict(8, 4, 8, 1, Problems.Set(("degree", 4L), ("radius", -1.0))));
    }
}
