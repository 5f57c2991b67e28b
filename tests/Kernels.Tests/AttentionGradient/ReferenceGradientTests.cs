using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests.AttentionGradient;

public sealed class ReferenceGradientTests
{
    private static readonly double[] GoldenDX =
    [
        0.02708107205142173, -0.17319641566633692, -0.12533961961604270,
        0.04185757030379583, -0.25112340793574051, -0.18432599973584674,
        0.01815041145493558, -0.09816869706395527, -0.07384390576141350,
    ];

    public static TheoryData<string> Exact => ["reference", "exact"];

    [Theory]
    [MemberData(nameof(Exact))]
    public void The_golden_vector_is_reproduced(string kernel)
    {
        GradientOutput<double> output = Problems.Run(kernel, Problems.Golden());
        Assert.True(Problems.Error(output.DX, GoldenDX) < 1e-15);
        Assert.Equal(4.9843815509959155, output.Loss, 1e-14);
        Assert.Equal(0.27908785290793586, output.MaxLogit, 1e-15);
        Assert.Equal(0, output.NonPositiveRowSums);
        Assert.InRange(output.MinRowSumOverN, 0.2, 1.0);
        Assert.Equal(output.DX, Problems.Run(kernel, Problems.Golden()).DX);
    }

    [Theory]
    [MemberData(nameof(Exact))]
    public void Forward_and_loss_are_those_of_the_formula(string kernel)
    {
        AttentionProblem<double> problem = Problems.Random(3, 23, 5, 4);
        double[] s = Problems.Logits(problem), h = Problems.Product(problem.A3, problem.Y, 23, 5);
        GradientOutput<double> output = Problems.Run(kernel, problem);
        double loss = 0;
        for (int i = 0; i < 23; i++)
        {
            double sum = Enumerable.Range(0, 23).Sum(j => Math.Exp(s[(i * 23) + j]));
            for (int k = 0; k < 5; k++)
            {
                double f = Enumerable.Range(0, 23).Sum(j => Math.Exp(s[(i * 23) + j]) / sum * h[(j * 5) + k]);
                Assert.Equal(f, output.Forward[(i * 5) + k], 1e-13);
                loss += Math.Pow(f - problem.E[(i * 5) + k], 2) / 2;
            }
        }

        Assert.Equal(loss, output.Loss, 1e-12);
        Assert.Equal(Math.Sqrt(s.Average(x => x * x)), output.RmsLogit, 1e-12);
    }

    [Theory]
    [InlineData(7, 3, 1.0)]
    [InlineData(16, 4, 2.0)]
    [InlineData(40, 6, 9.0)]
    public void The_gradient_is_the_complex_step_derivative_of_the_loss(int n, int d, double logit)
    {
        AttentionProblem<double> problem = Problems.Random(n, n, d, logit);
        double[] derivative = new double[d * d];
        for (int k = 0; k < derivative.Length; k++)
        {
            derivative[k] = ComplexLoss(problem, k, 1e-30).Imaginary / 1e-30;
        }

        Assert.True(Problems.Error(Problems.Run("reference", problem).DX, derivative) < 1e-13);
    }

    [Fact]
    public void The_gradient_is_the_central_difference_of_the_loss()
    {
        AttentionProblem<double> problem = Problems.Random(11, 12, 4, 2);
        double[] difference = new double[16];
        for (int k = 0; k < difference.Length; k++)
        {
            double middle = problem.X[k];
            problem.X[k] = middle + 1e-6;
            double above = Problems.Run("reference", problem).Loss;
            problem.X[k] = middle - 1e-6;
            difference[k] = (above - Problems.Run("reference", problem).Loss) / 2e-6;
            problem.X[k] = middle;
        }

        Assert.True(Problems.Error(Problems.Run("reference", problem).DX, difference) < 1e-7);
    }

    [Theory]
    [MemberData(nameof(Exact))]
    public void Rows_of_p_sum_to_zero_so_a_constant_added_to_all_keys_changes_nothing(string kernel)
    {
        AttentionProblem<double> problem = Problems.Random(5, 31, 6, 3);
        double[] before = Problems.Run(kernel, problem).DX;
        for (int i = 0; i < problem.A2.Length; i++)
        {
            problem.A2[i] += 0.5 + (i % 6);
        }

        Assert.True(Problems.Error(Problems.Run(kernel, problem).DX, before) < 1e-13);

        // All keys alike: dX is what the sums of the rows of p give, which is 0.
        Array.Fill(problem.A2, 0.7);
        Assert.All(Problems.Run(kernel, problem).DX, g => Assert.Equal(0, g));
    }

    [Theory]
    [MemberData(nameof(Exact))]
    public void A_target_equal_to_the_output_gives_zero(string kernel)
    {
        AttentionProblem<double> problem = Problems.Random(6, 20, 4, 3);
        double before = Problems.Run(kernel, problem).DX.Max(Math.Abs);
        Problems.Run(kernel, problem).Forward.CopyTo(problem.E, 0);
        Assert.True(Problems.Run(kernel, problem).DX.Max(Math.Abs) < 1e-15 * before);
    }

    [Theory]
    [MemberData(nameof(Exact))]
    public void The_gradient_is_affine_in_the_target(string kernel)
    {
        AttentionProblem<double> problem = Problems.Random(7, 20, 4, 3);
        double[] one = Problems.Run(kernel, problem).DX, e = [.. problem.E];
        Array.Clear(problem.E);
        double[] zero = Problems.Run(kernel, problem).DX;
        for (int i = 0; i < e.Length; i++)
        {
            problem.E[i] = -2 * e[i];
        }

        double[] expected = [.. one.Zip(zero, (o, z) => z - (2 * (o - z)))];
        Assert.True(Problems.Error(Problems.Run(kernel, problem).DX, expected) < 1e-13);
    }

    [Theory]
    [MemberData(nameof(Exact))]
    public void The_chain_rule_holds_along_a_ray(string kernel)
    {
        // d/dλ L(λ X) = <dL/dX(λ X), X>, at λ = 1 by a difference.
        AttentionProblem<double> problem = Problems.Random(8, 20, 4, 3);
        double[] x = [.. problem.X];
        double inner = Problems.Run(kernel, problem).DX.Zip(x, (g, v) => g * v).Sum();
        double LossAt(double lambda)
        {
            for (int k = 0; k < x.Length; k++)
            {
                problem.X[k] = lambda * x[k];
            }

            return Problems.Run(kernel, problem).Loss;
        }

        Assert.Equal((LossAt(1 + 1e-6) - LossAt(1 - 1e-6)) / 2e-6, inner, Math.Abs(inner) * 1e-6);
    }

    private static Complex ComplexLoss(AttentionProblem<double> problem, int entry, double step)
    {
        int n = problem.N, d = problem.D;
        Complex[] x = [.. problem.X.Select(v => new Complex(v, 0))];
        x[entry] += new Complex(0, step);
        Complex[] q = Problems.Product([.. problem.A1.Select(v => new Complex(v, 0))], x, n, d);
        double[] h = Problems.Product(problem.A3, problem.Y, n, d);
        Complex loss = 0;
        Complex[] f = new Complex[n];
        for (int i = 0; i < n; i++)
        {
            Complex sum = 0;
            for (int j = 0; j < n; j++)
            {
                f[j] = 0;
                for (int k = 0; k < d; k++)
                {
                    f[j] += q[(i * d) + k] * problem.A2[(j * d) + k] / d;
                }

                f[j] = Complex.Exp(f[j]);
                sum += f[j];
            }

            for (int k = 0; k < d; k++)
            {
                Complex c = -problem.E[(i * d) + k];
                for (int j = 0; j < n; j++)
                {
                    c += f[j] / sum * h[(j * d) + k];
                }

                // A sum of squares without the modulus: the loss must stay analytic.
                loss += c * c / 2;
            }
        }

        return loss;
    }

    [Fact]
    public void A_size_too_large_for_memory_is_a_question_of_memory()
    {
        // Sweeps skip by this prediction ("needs 64 GiB, limit 8 GiB"), so it must be made, not refused, at any n.
        KernelCost cost = new ReferenceGradient().Predict(65_536, 4, sizeof(double), 1, Settings.None);
        Assert.InRange(cost.StateBytes, 16.0 * 65_536 * 65_536, 17.0 * 65_536 * 65_536);
    }
}
