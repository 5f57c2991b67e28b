using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.Tests.Polynomials;

public sealed class ExpPolynomialTests
{
    [Fact]
    public void The_published_sample_of_degree_4_on_minus_1_to_1_is_found()
    {
        // The sample was levelled to 7e-7 of its error (5.03e-4), which is 1e-9 in its coefficients.
        double[] sample =
            [0.99962789548735109, 0.99793872865272182, 0.50289865135964862, 0.17648623286058943, 0.03996291411399769];
        ExpPolynomial fit = ExpPolynomial.Minimax(4, 1);
        for (int m = 0; m < sample.Length; m++)
        {
            Assert.Equal(sample[m], fit.A[m], 1e-9);
        }
    }

    [Theory]
    [InlineData(1, 4, 1.007)]
    [InlineData(2, 6, 1.016)]
    [InlineData(4, 8, 1.045)]
    [InlineData(4, 16, 1.013)]
    [InlineData(8, 8, 1.233)]
    [InlineData(8, 16, 1.057)]
    [InlineData(8, 24, 1.025)]
    public void The_error_is_twice_a_Bessel_function_to_the_factor_measured(double radius, int degree, double factor)
    {
        // J_m(R) by its series, in decimal: at R = 8 double would keep ten digits, which is enough, but why worry.
        decimal half = (decimal)radius / 2, term = 1, sum = 0;
        for (int k = 1; k <= degree + 1; k++)
        {
            term *= half / k;
        }

        for (int k = 1; k < 60; k++)
        {
            sum += term;
            term *= -half * half / (k * (k + degree + 1));
        }

        Assert.Equal(factor, ExpPolynomial.Minimax(degree, radius).RelativeError / (2 * (double)sum), 1.5e-3);
    }

    [Theory]
    [InlineData(0.5, "5e-3 2e-5 2e-8 2e-11 1e-14")]
    [InlineData(1, "4e-2 5e-4 3e-6 1e-8 2e-11")]
    [InlineData(2, "3e-1 1e-2 4e-4 5e-6 5e-8")]
    [InlineData(4, "9e-1 3e-1 3e-2 2e-3 8e-5")]
    [InlineData(8, "1 1 8e-1 3e-1 6e-2")]
    public void The_table_of_relative_errors_is_reproduced(double radius, string errors)
    {
        string[] table = errors.Split(' ');
        for (int i = 0; i < table.Length; i++)
        {
            double error = ExpPolynomial.Minimax(2 + (2 * i), radius).RelativeError;
            Assert.Equal(double.Parse(table[i]), Rounded(error));
        }
    }

    [Theory]
    [InlineData(0.5, "3e-2 4e-4 2e-6 8e-9 2e-11 3e-14 3e-20 2e-26", 1.5)]
    [InlineData(2, "6 1 1e-1 9e-3 3e-4 8e-6 2e-9 3e-13", 1.55)]
    [InlineData(8, "7e4 3e5 6e5 6e5 4e5 2e5 1e4 4e2", 1.5)]
    public void The_error_of_Taylor_is_that_of_the_table(double radius, string errors, double within)
    {
        int[] degrees = [2, 4, 6, 8, 10, 12, 16, 20];
        foreach ((int degree, string entry) in degrees.Zip(errors.Split(' ')))
        {
            double ratio = ExpPolynomial.Taylor(degree, radius).RelativeError / double.Parse(entry);
            Assert.InRange(ratio, 1 / within, within);
        }
    }

    [Fact]
    public void The_smallest_degrees_for_an_accuracy_are_those_of_the_table()
    {
        double[] accuracies = [1e-2, 1e-4, 1e-6, 1e-8, 1e-12];
        foreach ((double radius, int[] degrees) in ((double, int[])[])
            [(0.25, [2, 3, 4, 6, 8]), (1, [3, 5, 7, 9, 12]), (2, [5, 7, 9, 11, 15]), (4, [7, 10, 13, 15, 19])])
        {
            foreach ((double accuracy, int degree) in accuracies.Zip(degrees))
            {
                Assert.True(ExpPolynomial.Minimax(degree, radius).RelativeError <= accuracy);
                Assert.True(ExpPolynomial.Minimax(degree - 1, radius).RelativeError > accuracy);
            }
        }
    }

    [Theory]
    [InlineData(1, 0.3)]
    [InlineData(4, 1)]
    [InlineData(7, 2.5)]
    [InlineData(8, 5)]
    [InlineData(12, 9)]
    [InlineData(12, 4)]
    [InlineData(3, 12)]
    public void The_error_is_level_at_degree_plus_2_points_and_nowhere_larger(int degree, double radius)
    {
        ExpPolynomial fit = ExpPolynomial.Minimax(degree, radius);
        Assert.InRange(fit.Radius, radius, radius * (1 + (1 / 64.0)));
        const int Samples = 20_000;
        List<double> extrema = [];
        for (int i = 0; i <= Samples; i++)
        {
            double s = fit.Radius * ((2.0 * i / Samples) - 1), value = 0;
            for (int m = degree; m >= 0; m--)
            {
                value = (value * s) + fit.A[m];
            }

            double error = (value * Math.Exp(-s)) - 1;
            if (extrema.Count == 0 || (error > 0) != (extrema[^1] > 0))
            {
                extrema.Add(error);
            }
            else if (Math.Abs(error) > Math.Abs(extrema[^1]))
            {
                extrema[^1] = error;
            }
        }

        Assert.Equal(degree + 2, extrema.Count);
        Assert.All(extrema, e => Assert.Equal(1, Math.Abs(e) / fit.RelativeError, 1e-3));
    }

    [Fact]
    public void Every_degree_and_radius_gives_a_positive_polynomial_within_its_own_error()
    {
        for (int degree = 1; degree <= ExpPolynomial.MaxDegree; degree += degree < 6 ? 1 : 6)
        {
            double before = 0;
            foreach (double radius in (double[])[0, 1e-3, 0.1, 0.7, 1, 3, 6, 10, 16, 20, 24])
            {
                ExpPolynomial fit = ExpPolynomial.Minimax(degree, radius);
                Assert.True(fit.RelativeError is >= 0 and <= 1 + 1e-6 && fit.RelativeError >= before * (1 - 1e-9), $"{degree} {radius}");
                before = fit.RelativeError;
                for (int i = 0; i <= 200; i++)
                {
                    double s = fit.Radius * ((i / 100.0) - 1), value = 0, size = 0;
                    for (int m = degree; m >= 0; m--)
                    {
                        value = (value * s) + fit.A[m];
                        size = (size * Math.Abs(s)) + Math.Abs(fit.A[m]);
                    }

                    double rounding = size * Math.Exp(-s) * (degree + 2) * 2.3e-16;
                    Assert.True(
                        Math.Abs((value * Math.Exp(-s)) - 1) <= (fit.RelativeError * (1 + 1e-6)) + rounding, $"{degree} {radius} {s}");
                }
            }
        }
    }

    [Fact]
    public void The_elementary_form_is_within_8_percent_where_the_degree_exceeds_the_radius()
    {
        foreach ((double radius, int degree) in ((double, int)[])[(0.5, 2), (1, 4), (2, 6), (4, 8), (4, 16), (8, 16), (8, 24)])
        {
            double ratio = ExpPolynomial.Minimax(degree, radius).RelativeError / ExpPolynomial.ElementaryError(degree, radius);
            Assert.InRange(ratio, 0.92, 1.08);
        }
    }

    [Theory]
    [InlineData(0.5, "8e-3 3e-5 4e-8 3e-11 2e-14")]
    [InlineData(1, "1e-1 1e-3 8e-6 3e-8 7e-11")]
    [InlineData(2, "3 1e-1 3e-3 4e-5 4e-7")]
    [InlineData(4, "3e2 4e1 4 2e-1 7e-3")]
    [InlineData(8, "8e5 3e5 8e4 1e4 2e3")]
    public void The_error_of_the_Chebyshev_series_is_that_of_the_table(double radius, string errors)
    {
        string[] table = errors.Split(' ');
        for (int i = 0; i < table.Length; i++)
        {
            double ratio = ExpPolynomial.Chebyshev(2 + (2 * i), radius).RelativeError / double.Parse(table[i]);
            Assert.InRange(ratio, 1 / 1.5, 1.5);
        }
    }

    [Fact]
    public void Hermite_s_polynomial_has_the_least_mean_square_error_under_the_normal_distribution()
    {
        // The residual is orthogonal to every power under N(μ, σ²), by Gauss's sum over a fine grid of the density.
        (double mean, double deviation) = (0.3, 0.8);
        ExpPolynomial fit = ExpPolynomial.Hermite(5, mean, deviation, 4);
        for (int power = 0; power <= 5; power++)
        {
            double sum = 0, size = 0;
            for (int i = -4000; i <= 4000; i++)
            {
                double t = i / 400.0, s = mean + (deviation * t), weight = Math.Exp(-t * t / 2);
                double term = (Value(fit, s) - Math.Exp(s)) * Math.Pow(s, power) * weight;
                sum += term;
                size += Math.Abs(term);
            }

            Assert.True(Math.Abs(sum) < 1e-9 * size, $"power {power}: {sum} of {size}");
        }
    }

    [Fact]
    public void Without_a_deviation_Hermite_s_polynomial_is_Taylor_s()
    {
        double[] taylor = ExpPolynomial.Taylor(6, 1).A, hermite = ExpPolynomial.Hermite(6, 0, 0, 1).A;
        for (int m = 0; m <= 6; m++)
        {
            Assert.Equal(taylor[m], hermite[m], 1e-17);
        }
    }

    [Fact]
    public void Least_squares_leave_a_residual_orthogonal_to_every_power_over_the_sample()
    {
        double[] logits = [.. Enumerable.Range(0, 500).Select(i => 3 * Math.Sin(1 + (i * i)))];
        ExpPolynomial fit = ExpPolynomial.LeastSquares(7, logits, 3);
        for (int power = 0; power <= 7; power++)
        {
            double sum = 0, size = 0;
            foreach (double s in logits)
            {
                double term = (Value(fit, s) - Math.Exp(s)) * Math.Pow(s, power) * Math.Exp(-s);
                sum += term;
                size += Math.Abs(term);
            }

            Assert.True(Math.Abs(sum) < 1e-8 * size, $"power {power}: {sum} of {size}");
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void Least_squares_over_few_logits_go_through_them(int distinct)
    {
        double[] logits = [.. Enumerable.Range(0, 60).Select(i => ((i % distinct) * 0.7) - 1)];
        ExpPolynomial fit = ExpPolynomial.LeastSquares(6, logits, 2);
        foreach (double s in logits)
        {
            Assert.Equal(1, Value(fit, s) * Math.Exp(-s), 1e-13);
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(6)]
    [InlineData(20)]
    public void The_error_of_a_fit_is_nowhere_exceeded(int degree)
    {
        double[] logits = [.. Enumerable.Range(0, 300).Select(i => 2 * Math.Sin(i))];
        foreach (ExpPolynomial fit in (ExpPolynomial[])
            [ExpPolynomial.Chebyshev(degree, 2), ExpPolynomial.Hermite(degree, 0.1, 0.7, 2), ExpPolynomial.LeastSquares(degree, logits, 2)])
        {
            double worst = 0;
            for (int i = 0; i <= 5000; i++)
            {
                double s = fit.Radius * ((i / 2500.0) - 1);
                worst = Math.Max(worst, Math.Abs((Value(fit, s) * Math.Exp(-s)) - 1));
            }

            Assert.InRange(worst, fit.RelativeError * 0.99, (fit.RelativeError * 1.001) + 1e-13);
        }
    }

    [Fact]
    public void A_degree_or_radius_out_of_range_is_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => ExpPolynomial.Minimax(0, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => ExpPolynomial.Minimax(25, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => ExpPolynomial.Minimax(4, 25));
        Assert.Throws<ArgumentOutOfRangeException>(() => ExpPolynomial.Minimax(4, double.NaN));
    }

    private static double Value(ExpPolynomial fit, double s)
    {
        double value = 0;
        for (int m = fit.Degree; m >= 0; m--)
        {
            value = (value * s) + fit.A[m];
        }

        return value;
    }

    private static double Rounded(double value) => double.Parse(value.ToString("E0"));
}
