using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using Experiments.Kernels.Rivals;

namespace Experiments.Kernels.Tests.Rivals;

public sealed class RivalTests(ITestOutputHelper log)
{
    public static TheoryData<int, int, int> Shapes => new()
    {
        { 1, 1, 2 }, { 2, 3, 6 }, { 7, 1, 4 }, { 9, 5, 10 }, { 40, 4, 34 }, { 65, 7, 16 }, { 70, 13, 64 }, { 130, 3, 66 },
    };

    /// <summary>Whatever bases low-rank comes to have.</summary>
    public static TheoryData<string, string> BasesAndForms
    {
        get
        {
            TheoryData<string, string> all = [];
            IReadOnlyList<Axis> axes = BuiltIn.Kernel("low-rank").Axes;
            foreach (string basis in axes.Single(a => a.Name == "basis").Choices!)
            {
                foreach (string form in axes.Single(a => a.Name == "form").Choices!)
                {
                    all.Add(basis, form);
                }
            }

            return all;
        }
    }

    private static Settings Random(int features, bool orthogonal = true, int seed = 0, bool centred = true) => Problems.Set(
        ("features", (long)features), ("orthogonal", orthogonal), ("seed", (long)seed), ("centred", centred));

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Performer_is_its_kernel_on_dense_matrices(int n, int d, int m)
    {
        foreach ((bool orthogonal, bool centred) in ((bool, bool)[])[(true, true), (false, true), (true, false)])
        {
            AttentionProblem<double> problem = Problems.Random(n + m, n, d, 1);
            double[] omega = Frequencies.Of(m, d, orthogonal, 5);
            HoldToDense("performer", problem, Random(m, orthogonal, 5, centred), DenseRivals.Positive(omega, m), centred);
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Random_fourier_is_its_kernel_on_dense_matrices(int n, int d, int m)
    {
        foreach ((bool orthogonal, bool centred) in ((bool, bool)[])[(true, true), (false, true), (true, false)])
        {
            // Short vectors, so that no row sum comes near 0 and takes the digits with it.
            AttentionProblem<double> problem = Problems.Random(n + m, n, d, 0.05);
            Problems.Scale(problem.A2, 0.1);
            double[] omega = Frequencies.Of(m / 2, d, orthogonal, 5);
            HoldToDense("random-fourier", problem, Random(m, orthogonal, 5, centred), DenseRivals.Fourier(omega, m), centred);
        }
    }

    [Theory]
    [InlineData(5, 1, 5, 6)]
    [InlineData(8, 2, 4, 1)]
    [InlineData(9, 3, 2, 6)]
    [InlineData(33, 4, 8, 6)]
    [InlineData(40, 2, 17, 9)]
    [InlineData(70, 3, 33, 4)]
    [InlineData(20, 2, 1, 2)]
    public void Nystrom_is_the_gradient_of_its_own_loss(int n, int d, int m, int iterations)
    {
        AttentionProblem<double> problem = Problems.Random(n + m, n, d, 3);
        double[] gold = DenseRivals.NystromGradient(problem, m, iterations);
        double loss = DenseRivals.NystromLoss(problem, problem.X, m, iterations);
        Settings settings = Problems.Set(("landmarks", (long)m), ("iterations", (long)iterations));
        GradientOutput<double> output = Problems.Run("nystrom", problem, settings);
        GradientOutput<float> narrow = Problems.Run("nystrom", problem.To<float>(), settings);
        double error = Problems.Error(output.DX, gold), single = Problems.Error(narrow.DX, output.DX);
        log.WriteLine($"float64 {error:G3}, float32 {single:G3}, loss {Math.Abs(output.Loss - loss):G3}");
        Assert.True(error < 1e-7, $"float64 {error:G3}");
        Assert.True(single < 2e-4, $"float32 {single:G3}");
        Assert.Equal(loss, output.Loss, 1e-11 * (1 + loss));
    }

    [Theory]
    [InlineData("performer")]
    [InlineData("random-fourier")]
    [InlineData("nystrom")]
    [InlineData("dense-polynomial")]
    public void The_scale_of_the_logits_is_the_problem_s_and_dQ_is_given_where_it_is_asked_for(string kernel)
    {
        // Dividing by √d is dividing by d with A1 √d times as large; the gradient is then so many times as large.
        const int N = 24, D = 4;
        Settings settings = Problems.Set(("features", 32L), ("landmarks", 6L), ("degree", 6L), ("seed", 1L));
        AttentionProblem<double> problem = Problems.Random(5, N, D, 0.3);
        AttentionProblem<double> scaled = new(N, D, problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y)
        {
            Scale = LogitScale.SqrtD,
        };
        GradientOutput<double> byRoot = new(N, D) { DQ = new double[N * D] };
        BuiltIn.Kernel(kernel).Compute(scaled, settings, byRoot, KernelContext.Default);
        double[] larger = [.. problem.A1.Select(v => v * Math.Sqrt(D))];
        AttentionProblem<double> other = new(N, D, larger, problem.A2, problem.A3, problem.E, problem.X, problem.Y);

        // Random features see how the scale is split between queries and keys, so another split is another draw.
        Assert.True(kernel is "performer" or "random-fourier"
            || Problems.Error(byRoot.DX, Problems.Run(kernel, other, settings).DX) < 1e-9);
        AttentionProblem<double> causal = new(N, D, problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y)
        {
            Causal = true,
        };
        Assert.Throws<ArgumentException>(() => Problems.Run(kernel, causal, settings));

        // dX = A1ᵀ dQ.
        double[] product = new double[D * D];
        for (int i = 0; i < N * D * D; i++)
        {
            int row = i / (D * D), k = i / D % D, c = i % D;
            product[(k * D) + c] += problem.A1[(row * D) + k] * byRoot.DQ![(row * D) + c];
        }

        Assert.True(Problems.Error(product, byRoot.DX) < 1e-12);
        double[] gold = Problems.Run("reference", scaled).DX;
        Assert.True(Problems.Error(byRoot.DX, gold) < (kernel == "dense-polynomial" ? 1e-6 : 1.2));
    }

    [Fact]
    public void Nystrom_is_exact_where_the_tokens_of_a_run_are_alike()
    {
        // Sixteen tokens, each three times in a row; the landmarks are the tokens, and enough steps invert.
        AttentionProblem<double> few = Problems.Random(3, 16, 3, 12), problem = Problems.Random(3, 48, 3, 1);
        for (int i = 0; i < 48; i++)
        {
            Array.Copy(few.A1, i / 3 * 3, problem.A1, i * 3, 3);
            Array.Copy(few.A2, i / 3 * 3, problem.A2, i * 3, 3);
        }

        Array.Copy(few.X, problem.X, 9);
        double[] gold = Problems.Run("reference", problem).DX;
        double before = double.PositiveInfinity;
        foreach (int iterations in (int[])[6, 12, 24])
        {
            Settings settings = Problems.Set(("landmarks", 16L), ("iterations", (long)iterations));
            GradientOutput<double> output = Problems.Run("nystrom", problem, settings);
            double error = Problems.Error(output.DX, gold);
            log.WriteLine($"{iterations} steps: {error:G3}, least row sum {output.MinRowSumOverN * 48:G6}");
            Assert.True(error < before, $"{iterations}");
            before = error;
        }

        Assert.True(before < 1e-6, $"{before:G3}");
    }

    [Theory]
    [MemberData(nameof(BasesAndForms))]
    public void Dense_polynomial_is_low_rank_to_rounding_at_every_degree(string basis, string form)
    {
        foreach (bool centred in (bool[])[true, false])
        {
            for (int degree = 1; degree <= 24; degree += degree < 8 ? 1 : 4)
            {
                foreach ((int n, int d) in ((int, int)[])[(2, 2), (9, 1), (50, 3), (133, 2)])
                {
                    AttentionProblem<double> problem = Problems.Random(degree, n, d, 0.4);
                    Settings settings = Problems.Set(
                        ("degree", (long)degree), ("basis", basis), ("form", form), ("centred", centred));
                    Compare(problem, settings, Math.ScaleB(1, -52), $"{degree} n={n} d={d}");
                    Compare(problem.To<float>(), settings, Math.ScaleB(1, -23), $"{degree} n={n} d={d} float32");
                }
            }
        }

        static void Compare<T>(AttentionProblem<T> problem, Settings settings, double ulp, string where)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            GradientOutput<T> lowRank;
            try
            {
                lowRank = Problems.Run("low-rank", problem, settings);
            }
            catch (KernelFailure)
            {
                // Where the fit lets a row sum down, it does so here too.
                Assert.Throws<KernelFailure>(() => Problems.Run("dense-polynomial", problem, settings));
                return;
            }

            GradientOutput<T> dense = Problems.Run("dense-polynomial", problem, settings);
            Assert.Equal(lowRank.FittedRadius, dense.FittedRadius);
            Assert.Equal(lowRank.PredictedExpError, dense.PredictedExpError);

            // Terms of size e^R cancel down to e^(-R) in the worst row.
            double bar = ulp * 100 * Math.Exp(2 * dense.FittedRadius);
            double[] gold = [.. lowRank.DX.Select(double.CreateTruncating)];
            Assert.True(Problems.Error(dense.DX, gold) <= bar, $"{where}: {Problems.Error(dense.DX, gold):G3} over {bar:G3}");
            Assert.Equal(lowRank.Loss, dense.Loss, bar * (1 + lowRank.Loss));
            double[] forward = [.. lowRank.Forward.Select(double.CreateTruncating)];
            Assert.True(Problems.Error(dense.Forward, forward) <= bar, where);
        }
    }

    [Fact]
    public void Dense_polynomial_has_every_axis_of_low_rank_and_chooses_the_same_degree()
    {
        Assert.Equal(
            BuiltIn.Kernel("low-rank").Axes.Select(a => (a.Name, a.Default)), BuiltIn.Kernel("dense-polynomial").Axes.Select(a => (a.Name, a.Default)));
        Settings auto = Problems.Set(("degree", "auto"), ("tolerance", 1e-7));
        AttentionProblem<double> problem = Problems.Random(3, 60, 3, 0.7);
        GradientOutput<double> dense = Problems.Run("dense-polynomial", problem, auto);
        Assert.Equal(Problems.Run("low-rank", problem, auto).FittedDegree, dense.FittedDegree);
        Assert.InRange(dense.PredictedExpError, 0, 1e-7);
    }

    [Fact]
    public void Dense_polynomial_reports_the_uncentred_logits()
    {
        AttentionProblem<double> problem = Problems.Random(8, 43, 3, 2);
        double[] logits = Problems.Logits(problem);
        foreach (bool centred in (bool[])[true, false])
        {
            GradientOutput<double> output = Problems.Run(
                "dense-polynomial", problem, Problems.Set(("degree", 8L), ("centred", centred)));
            Assert.Equal(2, output.MaxLogit, 1e-12);
            Assert.Equal(Math.Sqrt(logits.Average(s => s * s)), output.RmsLogit, 1e-12);
        }
    }

    [Theory]
    [InlineData(64, 8)]
    [InlineData(120, 10)]
    public void Dense_polynomial_takes_a_d_at_which_features_would_be_astronomic(int d, int degree)
    {
        AttentionProblem<double> problem = new GaussianFamily().Draw(new(96, d, 2.0, 11, Settings.None));
        Settings settings = Problems.Set(("degree", (long)degree));
        Assert.Throws<ArgumentException>(() => BuiltIn.Kernel("low-rank").Predict(96, d, 8, 1, settings));
        double error = Problems.Error(
            Problems.Run("dense-polynomial", problem, settings).DX, Problems.Run("exact", problem).DX);
        log.WriteLine($"d = {d}, degree {degree}: {error:G3}");
        Assert.True(error < 1e-4, $"{error:G3}");
    }

    [Theory]
    [InlineData("performer", true)]
    [InlineData("performer", false)]
    [InlineData("random-fourier", true)]
    [InlineData("random-fourier", false)]
    public void The_error_falls_like_one_over_the_root_of_the_features(string kernel, bool orthogonal)
    {
        // Bound 1, where the law holds; the seeds are the axis' own, so every run of the test sees the same numbers.
        AttentionProblem<double> problem = new UniformFamily().Draw(new(160, 4, 1.0, 77, Settings.None));
        double[] gold = Problems.Run("exact", problem).DX;
        List<(double X, double Y)> points = [];
        foreach (int m in (int[])[64, 128, 256, 512, 1024, 2048])
        {
            double median = Enumerable.Range(0, 15)
                .Select(seed => Problems.Error(Problems.Run(kernel, problem, Random(m, orthogonal, seed)).DX, gold))
                .Order().ElementAt(7);
            points.Add((Math.Log(m), Math.Log(median)));
            log.WriteLine($"m = {m}: median error {median:G3}");
        }

        double x = points.Average(p => p.X), y = points.Average(p => p.Y);
        double slope = points.Sum(p => (p.X - x) * (p.Y - y)) / points.Sum(p => (p.X - x) * (p.X - x));
        log.WriteLine($"slope {slope:G3}");
        Assert.InRange(slope, -0.7, -0.35);
    }

    [Fact]
    public void Orthogonal_features_err_less_than_independent_ones()
    {
        AttentionProblem<double> problem = new UniformFamily().Draw(new(160, 4, 1.0, 78, Settings.None));
        double[] gold = Problems.Run("exact", problem).DX;
        double Median(bool orthogonal) => Enumerable.Range(0, 25)
            .Select(seed => Problems.Error(Problems.Run("random-fourier", problem, Random(256, orthogonal, seed)).DX, gold))
            .Order().ElementAt(12);
        log.WriteLine($"orthogonal {Median(true):G3}, independent {Median(false):G3}");
        Assert.True(Median(true) < Median(false));
    }

    [Fact]
    public void Orthogonal_vectors_are_orthogonal_in_blocks_and_keep_their_law()
    {
        const int D = 6, Count = 6000;
        double[] omega = Frequencies.Of(Count, D, orthogonal: true, 3);
        for (int a = 0; a < Count; a++)
        {
            for (int b = a / D * D; b < a; b++)
            {
                double dot = Enumerable.Range(0, D).Sum(k => omega[(a * D) + k] * omega[(b * D) + k]);
                Assert.Equal(0, dot, 1e-12);
            }
        }

        double[] lengths = [.. Enumerable.Range(0, Count).Select(
            a => Enumerable.Range(0, D).Sum(k => omega[(a * D) + k] * omega[(a * D) + k]))];

        // Chi-squared with six degrees of freedom: mean 6, variance 12.
        Assert.Equal(6, lengths.Average(), 0.25);
        Assert.Equal(12, lengths.Average(l => (l - 6) * (l - 6)), 1.5);
        Assert.Equal(0, omega.Average(), 0.03);
        Assert.Equal(3, omega.Average(w => w * w * w * w), 0.2);
        Assert.NotEqual(omega, Frequencies.Of(Count, D, orthogonal: true, 4));
        Assert.NotEqual(omega, Frequencies.Of(Count, D, orthogonal: false, 3));
    }

    [Fact]
    public void Sines_and_cosines_are_right_to_an_ulp_of_one_for_angles_of_every_size()
    {
        double[] wide = new double[Vector<double>.Count];
        float[] narrow = new float[Vector<float>.Count];
        for (double size = 1e-8; size < 1e7; size *= 1.37)
        {
            foreach (double sign in (double[])[1, -1])
            {
                for (int i = 0; i < narrow.Length; i++)
                {
                    narrow[i] = (float)(sign * size * (1 + (0.3 * i)));
                }

                for (int i = 0; i < wide.Length; i++)
                {
                    wide[i] = sign * size * (1 + (0.3 * i));
                }

                (Vector<double> sine, Vector<double> cosine) = Angles.SinCos(new Vector<double>(wide));
                (Vector<float> single, Vector<float> second) = Angles.SinCos(new Vector<float>(narrow));
                for (int i = 0; i < wide.Length; i++)
                {
                    Assert.Equal(Math.Sin(wide[i]), sine[i], 3e-16);
                    Assert.Equal(Math.Cos(wide[i]), cosine[i], 3e-16);
                }

                for (int i = 0; i < narrow.Length; i++)
                {
                    Assert.Equal(Math.Sin(narrow[i]), single[i], 1.5e-7);
                    Assert.Equal(Math.Cos(narrow[i]), second[i], 1.5e-7);
                }
            }
        }

        Assert.True(double.IsNaN(Angles.SinCos(Vector.Create(double.NaN)).Sine[0]));
        Assert.True(float.IsNaN(Angles.SinCos(Vector.Create(float.PositiveInfinity)).Cosine[0]));
    }

    // Made once from this code; they hold it to the same bits on every machine and in every later version.
    [Theory]
    [InlineData(true, "E49B601FFBE95A5D")]
    [InlineData(false, "05F296B0C4A5D08D")]
    public void A_seed_is_the_same_bits_for_ever(bool orthogonal, string digest)
    {
        double[] omega = Frequencies.Of(100, 7, orthogonal, 2402);
        byte[] hash = System.Security.Cryptography.SHA256.HashData(System.Runtime.InteropServices.MemoryMarshal.AsBytes<double>(omega));
        Assert.Equal(digest, Convert.ToHexString(hash)[..16]);
    }

    private void HoldToDense(
        string kernel, AttentionProblem<double> problem, Settings settings, DenseRivals.Similarity similarity, bool centred)
    {
        DenseRivals.Result dense = DenseRivals.OfKernel(problem, similarity, centred);
        if (!(dense.LeastRowSum > 0))
        {
            Assert.Throws<KernelFailure>(() => Problems.Run(kernel, problem, settings));
            return;
        }

        GradientOutput<double> wide = Problems.Run(kernel, problem, settings);
        GradientOutput<float> narrow = Problems.Run(kernel, problem.To<float>(), settings);

        // Judged by what was added and cancelled, not by what is left of it.
        double Off(IEnumerable<double> dX) => dX.Zip(dense.DX, (mine, gold) => Math.Abs(mine - gold)).Max() / dense.Added;
        double error = Off(wide.DX), single = Off(narrow.DX.Select(v => (double)v));
        log.WriteLine(
            $"n={problem.N} d={problem.D}: float64 {error:G3}, float32 {single:G3}, loss {Math.Abs(wide.Loss - dense.Loss):G3}");
        Assert.True(error < 1e-14, $"float64 {error:G3}");
        Assert.True(single < 5e-6, $"float32 {single:G3}");
        Assert.Equal(dense.Loss, wide.Loss, 1e-12 * (1 + dense.Loss));
        Assert.Equal(dense.Loss, narrow.Loss, 1e-4 * (1 + dense.Loss));
    }
}
