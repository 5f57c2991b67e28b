using System.Numerics;
using CsCheck;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;
using Experiments.Kernels.Polynomials;
using Experiments.Testing;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>What the contract of every kernel cannot ask, for it concerns low-rank alone.</summary>
internal static class PolynomialContract
{
    // Crosses one, two and four vectors of either type, their remainders, and up to two tiles and a half of keys.
    private static readonly Gen<(int Seed, int N, int D)> Shapes =
        Gen.Select(Gen.Int[0, 1 << 20], Gen.Frequency((9, Gen.Int[1, 70]), (1, Gen.Int[129, 300])), Gen.Int[1, 13],
            (seed, n, d) => (seed, n, n > 100 ? Math.Min(d, 3) : d));

    /// <summary>Holds low-rank to the dense emulation of the same polynomial, and that to the coefficients it says.</summary>
    public static void Polynomial<T>(int degree, string basis, string form, double logit, int iterations)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double ulp = typeof(T) == typeof(float) ? Math.ScaleB(1, -23) : Math.ScaleB(1, -52);
        Settings settings = Problems.Set(("degree", (long)degree), ("basis", basis), ("form", form));
        Shapes.SampleFixed(
            x =>
            {
                (int seed, int n, int d) = x;
                AttentionProblem<T> problem = Problems.Random(seed, n, Math.Min(d, 6), logit).To<T>();
                GradientOutput<T> output = Problems.Run("low-rank", problem, settings);
                ExpPolynomial polynomial = basis == "minimax"
                    ? ExpPolynomial.Minimax(degree, output.FittedRadius)
                    : ExpPolynomial.Taylor(degree, output.FittedRadius);
                (double[] gold, double loss) = DenseEmulation.Compute(
                    problem.To<double>(), polynomial.A, form == "reverse" ? polynomial.A : polynomial.PaperHat(), centred: true);

                // Terms of size e^R cancel down to e^(-R) in the worst row.
                double bar = ulp * 100 * Math.Exp(2 * output.FittedRadius);
                double error = Problems.Error(output.DX, gold, PlainGradient.LeastScale(problem.To<double>()));
                Assert.True(n == 1 || error <= bar, $"n={n} d={d} seed={seed}: error {error:G3}, bar {bar:G3}");
                Assert.Equal(loss, output.Loss, bar * (1 + loss));
            },
            iterations);
    }
}
