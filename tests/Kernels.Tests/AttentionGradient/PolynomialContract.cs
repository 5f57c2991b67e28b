using System.Numerics;
using CsCheck;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;
using Experiments.Kernels.AttentionGradient.LowRank;
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
                ExpPolynomial polynomial = Fit(problem, degree, basis, output.FittedRadius);
                Assert.Equal(polynomial.RelativeError, output.PredictedExpError, polynomial.RelativeError * 1e-3);
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

    /// <summary>The polynomial that low-rank should have found, from the dense logits of queries rounded as it rounds them.</summary>
    public static ExpPolynomial Fit<T>(AttentionProblem<T> problem, int degree, string basis, double radius, bool centred = true)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        switch (basis)
        {
            case "taylor":
                return ExpPolynomial.Taylor(degree, radius);
            case "minimax":
                return ExpPolynomial.Minimax(degree, radius);
            case "chebyshev":
                return ExpPolynomial.Chebyshev(degree, radius);
        }

        int n = problem.N, d = problem.D;
        AttentionProblem<double> wide = problem.To<double>();
        double[] q = [.. Problems.Product(wide.A1, wide.X, n, d).Select(x => double.CreateTruncating(T.CreateTruncating(x)))];
        double[] mean = [.. Enumerable.Range(0, d).Select(k => centred ? Enumerable.Range(0, n).Average(j => wide.A2[(j * d) + k]) : 0)];
        double Logit(int i, int j) => Enumerable.Range(0, d).Sum(k => q[(i * d) + k] * (wide.A2[(j * d) + k] - mean[k])) / problem.Divisor;
        if (basis == "least-squares")
        {
            double[] sample = [.. Enumerable.Range(0, LogitSample.Count(n)).Select(at =>
            {
                (int row, int key) = LogitSample.Pair(n, at);
                return Logit(row, key);
            })];
            return ExpPolynomial.LeastSquares(degree, sample, radius);
        }

        double[] all = [.. Enumerable.Range(0, n * n).Select(at => Logit(at / n, at % n))];
        double average = all.Average();
        return ExpPolynomial.Hermite(degree, average, Math.Sqrt(all.Average(s => (s - average) * (s - average))), radius);
    }
}
