using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Polynomials;

/// <summary>Remez's exchange for the relative error of exp on [−R, R], in double-double.</summary>
/// <remarks>
/// With s = R x, the g + 2 points of a reference and weights λ_k = 1 / Π (x_k − x_j), a polynomial of degree g has
/// Σ λ_k P(x_k) = 0, so P(x_k) = e^(R x_k) (1 + (−1)^k E) gives the levelled error E in closed form and P by interpolation,
/// without a linear system. Then every extremum of P(x) e^(−R x) − 1 is found between its sign changes on a grid and made
/// the next reference, until they are level. The error's derivative is (P' − R P) e^(−R x), with g zeros at most, so both
/// ends always belong to the reference.
/// Source: Remez 1934 in the form of Pachón and Trefethen 2009 (BIT 49), with the weight e^(−s).
/// </remarks>
internal static class RemezExchange
{
    private const int PointsPerInterval = 16;

    public static ExpPolynomial Fit(int degree, double radius)
    {
        // Below this the levelled error is lost in the last digits of double-double, and far below those of double:
        // interpolation at the starting points is as good as the best polynomial.
        bool level = radius > 8 || ExpPolynomial.ElementaryError(degree, radius) > 1e-22;
        int count = degree + 2, samples = PointsPerInterval * (degree + 1);
        double[] x = new double[count];
        for (int k = 0; k < count; k++)
        {
            x[k] = Spread(-1 + (2.0 * k / (count - 1)));
        }

        double[] grid = new double[samples + 1];
        DoubleDouble[] weight = new DoubleDouble[samples + 1];
        double[] error = new double[samples + 1];
        for (int i = 0; i <= samples; i++)
        {
            grid[i] = -1 + (2.0 * i / samples);
            weight[i] = DoubleDouble.Exp(DoubleDouble.Product(-radius, Spread(grid[i])));
        }

        DoubleDouble[] coefficients = [];
        double worst = 0;
        for (int round = 0; round < 60; round++)
        {
            (coefficients, double levelled) = Interpolate(x, radius);
            if (!level)
            {
                worst = Math.Exp(2 * radius) * ExpPolynomial.ElementaryError(degree, radius) * 2;
                break;
            }

            worst = 0;
            for (int i = 0; i <= samples; i++)
            {
                error[i] = (double)((Evaluate(coefficients, Spread(grid[i])) * weight[i]) - DoubleDouble.One);
                worst = Math.Max(worst, Math.Abs(error[i]));
            }

            // Once the reference stands still its errors are the extrema; a whisker covers what the last step moved.
            double moved = Exchange(grid, error, x, coefficients, radius);
            if (!(moved > 1e-9))
            {
                worst = Math.Max(worst, Math.Abs(levelled) * (1 + 1e-12));
                break;
            }
        }

        double[] a = new double[degree + 1];
        DoubleDouble power = DoubleDouble.One;
        for (int m = 0; m <= degree; m++)
        {
            a[m] = (double)(coefficients[m] / power);
            power *= radius;
        }

        return new(a, radius, worst);
    }

    // Crowds points towards ±1 as a cosine does, with operations that are the same on every machine.
    private static double Spread(double t) => t * (3 - (t * t)) / 2;

    private static DoubleDouble Evaluate(DoubleDouble[] coefficients, double x)
    {
        DoubleDouble sum = coefficients[^1];
        for (int m = coefficients.Length - 2; m >= 0; m--)
        {
            sum = (sum * x) + coefficients[m];
        }

        return sum;
    }

    private static (DoubleDouble[] Coefficients, double Levelled) Interpolate(double[] x, double radius)
    {
        int count = x.Length;
        DoubleDouble[] y = new DoubleDouble[count];
        for (int k = 0; k < count; k++)
        {
            y[k] = DoubleDouble.Exp(DoubleDouble.Product(radius, x[k]));
        }

        DoubleDouble plain = DoubleDouble.Zero, alternating = DoubleDouble.Zero;
        for (int k = 0; k < count; k++)
        {
            DoubleDouble product = DoubleDouble.One;
            for (int j = 0; j < count; j++)
            {
                product = j == k ? product : product * DoubleDouble.Sum(x[k], -x[j]);
            }

            DoubleDouble share = y[k] / product;
            plain += share;
            alternating += (k & 1) == 0 ? share : -share;
        }

        DoubleDouble levelled = -plain / alternating;
        for (int k = 0; k < count; k++)
        {
            y[k] += (k & 1) == 0 ? y[k] * levelled : -(y[k] * levelled);
        }

        // Newton's divided differences over all but the last point (which fits of itself), then powers of x.
        int terms = count - 1;
        for (int order = 1; order < terms; order++)
        {
            for (int k = terms - 1; k >= order; k--)
            {
                y[k] = (y[k] - y[k - 1]) / DoubleDouble.Sum(x[k], -x[k - order]);
            }
        }

        DoubleDouble[] powers = new DoubleDouble[terms];
        powers[0] = y[terms - 1];
        for (int k = terms - 2; k >= 0; k--)
        {
            for (int m = terms - 1 - k; m >= 1; m--)
            {
                powers[m] = powers[m - 1] - (powers[m] * x[k]);
            }

            powers[0] = y[k] - (powers[0] * x[k]);
        }

        return (powers, levelled.High);
    }

    /// <summary>Moves the interior points of the reference to the extrema of the sampled error. Returns how far the one
    /// that moved most did; NaN if there are fewer or more extrema than points, so that no better reference is to be had.</summary>
    private static double Exchange(double[] grid, double[] error, double[] x, DoubleDouble[] coefficients, double radius)
    {
        int runs = 0, samples = grid.Length - 1;
        Span<int> best = stackalloc int[x.Length];
        for (int i = 0; i <= samples; i++)
        {
            if (i == 0 || (error[i] > 0) != (error[i - 1] > 0))
            {
                if (runs == x.Length)
                {
                    return double.NaN;
                }

                best[runs++] = i;
            }
            else if (Math.Abs(error[i]) > Math.Abs(error[best[runs - 1]]))
            {
                best[runs - 1] = i;
            }
        }

        if (runs != x.Length)
        {
            return double.NaN;
        }

        double moved = 0;
        for (int k = 1; k < x.Length - 1; k++)
        {
            double low = Spread(grid[best[k] - 1]), high = Spread(grid[best[k] + 1]);
            double at = Extremum(coefficients, radius, Spread(grid[best[k]]), low, high);
            moved = Math.Max(moved, Math.Abs(at - x[k]));
            x[k] = at;
        }

        return moved;
    }

    /// <summary>Newton's steps on P' − R P, which is 0 where P e^(−R x) is level, kept between two neighbours.</summary>
    private static double Extremum(DoubleDouble[] coefficients, double radius, double start, double low, double high)
    {
        double x = start;
        for (int step = 0; step < 6; step++)
        {
            DoubleDouble value = DoubleDouble.Zero, slope = value, bend = value;
            for (int m = coefficients.Length - 1; m >= 0; m--)
            {
                bend = (bend * x) + slope;
                slope = (slope * x) + value;
                value = (value * x) + coefficients[m];
            }

            double residual = (double)(slope - (value * radius));
            double next = Math.Clamp(x - (residual / (double)((bend * 2.0) - (slope * radius))), low, high);
            if (double.IsNaN(next))
            {
                return x;
            }

            double change = Math.Abs(next - x);
            x = next;
            if (change < 1e-13)
            {
                break;
            }
        }

        return x;
    }
}
