using System.Numerics;
using CsCheck;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.AttentionGradient.LowRank;
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
                GradientOutput<T> output = Problems.RunAll("low-rank", problem, settings);
                ExpPolynomial polynomial = Fit(problem, degree, basis, output.FittedRadius);
                Assert.Equal(polynomial.RelativeError, output.PredictedExpError, polynomial.RelativeError * 1e-3);
                double[] hat = form == "reverse" ? polynomial.A : polynomial.PaperHat();
                DenseEmulation gold = DenseEmulation.Gold(problem.To<double>(), polynomial.A, hat, centred: true);
                DenseEmulation plain = DenseEmulation.Plain(problem, polynomial.A, hat, centred: true);

                // Terms of size e^R cancel down to e^(-R) in the worst row. 2.6 units were needed in 10,000 comparisons.
                double floor = 10 * ulp * Math.Exp(2 * output.FittedRadius);
                foreach ((string what, double error, double least) in Errors(problem, output, gold, plain.Output))
                {
                    Assert.True(
                        error <= (2 * least) + floor,
                        $"{what}, n={n} d={d} seed={seed}: error {error:G3}, of plain code {least:G3}, floor {floor:G3}");
                }

                Assert.Equal(gold.Output.Loss, output.Loss, 10 * floor * (1 + gold.Output.Loss));
            },
            iterations);
    }

    /// <summary>The errors of all that low-rank gives and beside each that of plain code, both of the gold's largest entry or a sixteenth of
    /// the sum of its terms without their signs.</summary>
    public static IEnumerable<(string What, double Error, double Plain)> Errors<T>(
        AttentionProblem<T> problem, GradientOutput<T> output, DenseEmulation gold, GradientOutput<double> plain)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int d = problem.D;
        AttentionProblem<double> wide = problem.To<double>();
        foreach ((string what, T[] ours, double[] theirs, double[] right, double terms) in ((string, T[], double[], double[], double)[])
            [
                ("dX", output.DX, plain.DX, gold.Output.DX, GradientTerms.Absolute(wide.A1, gold.OfQueries, d)),
                ("dY", output.DY, plain.DY, gold.Output.DY, GradientTerms.Absolute(wide.A3, gold.OfValues, d)),
                ("dQ", output.DQ!, plain.DQ!, gold.Output.DQ!, gold.OfQueries.Max()),
                ("dK", output.DK!, plain.DK!, gold.Output.DK!, gold.OfKeys.Max()),
                ("dV", output.DV!, plain.DV!, gold.Output.DV!, gold.OfValues.Max()),
                ("F", output.Forward, plain.Forward, gold.Output.Forward, Problems.Product(wide.A3, wide.Y, problem.N, d).Max(Math.Abs)),
            ])
        {
            // A single row has no gradient but for rounding, except by the values.
            if (problem.N > 1 || what is "F" or "dV" or "dY")
            {
                yield return (what, Problems.Error(ours, right, terms / 16), Problems.Error(theirs, right, terms / 16));
            }
        }
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
