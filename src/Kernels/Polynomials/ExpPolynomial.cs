using System.Collections.Concurrent;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Polynomials;

/// <summary>A polynomial that stands for exp on [−R, R]: Σ a_m s^m.</summary>
/// <param name="A">a_0 … a_g.</param>
/// <param name="Radius">R.</param>
/// <param name="RelativeError">max |P(s) − e^s| / e^s over [−R, R], before rounding: in double, terms of size e^R that cancel to
/// e^−R leave about 1e-16 e^(2R) as well.</param>
public sealed record ExpPolynomial(double[] A, double Radius, double RelativeError)
{
    public const int MaxDegree = 24;

    /// <summary>The largest R of <see cref="Minimax"/>: there degree 24 leaves a relative error of 0.33, and the fit begins to
    /// run out of digits.</summary>
    public const double MaxRadius = 24;

    /// <summary>The least R of <see cref="Minimax"/>: smaller data are fitted as if they reached this far.</summary>
    public const double MinRadius = 1.0 / 1024;

    // Every instance has another R, so R is rounded up to a grid of 64 steps an octave (1.6 % at most): then a sweep's
    // instances share a few fits. The bound on a cache that a long-lived node never outgrows.
    private const int CacheLimit = 4096;

    private static readonly ConcurrentDictionary<(int Degree, double Radius), ExpPolynomial> Fits = new();

    public int Degree => A.Length - 1;

    /// <summary>b̂_m = a_(m−1) / m, the antiderivative: the paper's formula, exp replaced by P (mathematics in README.md).</summary>
    public double[] PaperHat()
    {
        double[] hat = new double[A.Length + 1];
        for (int m = 1; m < hat.Length; m++)
        {
            hat[m] = A[m - 1] / m;
        }

        return hat;
    }

    /// <summary>The next R of the grid, at or above.</summary>
    public static double RoundUp(double radius)
    {
        double least = Math.Max(radius, MinRadius);
        double octave = Math.ScaleB(1.0, Math.ILogB(least));
        return Math.Ceiling(least / octave * 64) / 64 * octave;
    }

    /// <summary>Σ s^m / m!.</summary>
    /// <remarks>
    /// The relative error grows away from 0 on both sides and is largest at −R, where it is exactly
    /// ∫ t^g e^t / g! dt over [0, R], a series of positive terms.
    /// </remarks>
    public static ExpPolynomial Taylor(int degree, double radius)
    {
        CheckDegree(degree);
        double[] a = new double[degree + 1];
        for (int m = 0; m <= degree; m++)
        {
            a[m] = (double)DoubleDouble.InverseFactorial(m);
        }

        double term = a[degree], sum = 0;
        for (int m = 1; m <= degree + 1; m++)
        {
            term *= radius;
        }

        for (int k = 0; k < 2000 && term > sum * 1e-18; k++)
        {
            sum += term / (degree + 1 + k);
            term *= radius / (k + 1);
        }

        return new(a, radius, sum * (1 + 1e-12));
    }

    /// <summary>The polynomial of least relative error on [−R, R]; it is positive there, whatever the degree.</summary>
    /// <param name="radius">R; rounded up by <see cref="RoundUp"/>, and the result says to what.</param>
    /// <exception cref="ArgumentOutOfRangeException">R is not between 0 and <see cref="MaxRadius"/>, or the degree not in
    /// 1 … 24.</exception>
    public static ExpPolynomial Minimax(int degree, double radius)
    {
        CheckDegree(degree);
        if (!(radius >= 0 && radius <= MaxRadius))
        {
            throw new ArgumentOutOfRangeException(
                nameof(radius), $"R = {radius}: relative minimax polynomials are fitted for R from 0 to {MaxRadius}.");
        }

        (int, double) key = (degree, RoundUp(radius));
        if (Fits.TryGetValue(key, out ExpPolynomial? known))
        {
            return known;
        }

        if (Fits.Count >= CacheLimit)
        {
            Fits.Clear();
        }

        return Fits.GetOrAdd(key, static k => RemezExchange.Fit(k.Degree, k.Radius));
    }

    /// <summary>The Chebyshev series of exp on [−R, R], cut off: best in absolute error, to a few percent, and so worst in relative
    /// error at −R, where it may be negative. Kept as the warning that it is.</summary>
    /// <param name="radius">R; rounded up by <see cref="RoundUp"/>, and the result says to what.</param>
    /// <remarks>e^(R x) = I_0(R) + 2 Σ I_m(R) T_m(x), I the modified Bessel functions, by their series in double-double.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">R is not between 0 and <see cref="MaxRadius"/>, or the degree not in
    /// 1 … 24.</exception>
    public static ExpPolynomial Chebyshev(int degree, double radius)
    {
        CheckDegree(degree);
        if (!(radius >= 0 && radius <= MaxRadius))
        {
            throw new ArgumentOutOfRangeException(
                nameof(radius), $"R = {radius}: Chebyshev series are made for R from 0 to {MaxRadius}.");
        }

        double r = RoundUp(radius);
        DoubleDouble[] sum = new DoubleDouble[degree + 1], before = new DoubleDouble[degree + 1], now = new DoubleDouble[degree + 1];
        before[0] = DoubleDouble.One;
        now[1] = DoubleDouble.One;
        sum[0] = Bessel(0, r);
        sum[1] = Bessel(1, r) * 2.0;
        for (int m = 2; m <= degree; m++)
        {
            // T_m = 2 x T_(m−1) − T_(m−2).
            DoubleDouble[] next = new DoubleDouble[degree + 1];
            DoubleDouble factor = Bessel(m, r) * 2.0;
            for (int k = 0; k <= m; k++)
            {
                next[k] = (k > 0 ? now[k - 1] * 2.0 : DoubleDouble.Zero) - before[k];
                sum[k] += next[k] * factor;
            }

            (before, now) = (now, next);
        }

        return Of(sum, r, r);
    }

    /// <summary>The polynomial of least mean square error where logits are normal, N(μ, σ²).</summary>
    /// <param name="mean">μ, of all logits.</param>
    /// <param name="deviation">σ, of all logits; at 0 the result is Taylor's polynomial about μ.</param>
    /// <param name="radius">R, as far as the error is looked at.</param>
    /// <remarks>e^(μ + σ²/2) Σ Q_m(s) / m! with Q_m = σ^m He_m((s − μ)/σ), which Q_(m+1) = (s − μ) Q_m − m σ² Q_(m−1) gives without a
    /// division. There is no guarantee off that distribution: the polynomial may be negative on [−R, R].</remarks>
    public static ExpPolynomial Hermite(int degree, double mean, double deviation, double radius)
    {
        CheckDegree(degree);
        DoubleDouble variance = DoubleDouble.Product(deviation, deviation);
        DoubleDouble[] sum = new DoubleDouble[degree + 1], before = new DoubleDouble[degree + 1], now = new DoubleDouble[degree + 1];
        now[0] = DoubleDouble.One;
        sum[0] = DoubleDouble.One;
        for (int m = 0; m < degree; m++)
        {
            DoubleDouble[] next = new DoubleDouble[degree + 1];
            for (int k = 0; k <= m + 1; k++)
            {
                next[k] = (k > 0 ? now[k - 1] : DoubleDouble.Zero) - (now[k] * mean) - (before[k] * variance * m);
                sum[k] += next[k] * DoubleDouble.InverseFactorial(m + 1);
            }

            (before, now) = (now, next);
        }

        DoubleDouble scale = DoubleDouble.Exp((variance * 0.5) + mean);
        for (int k = 0; k <= degree; k++)
        {
            sum[k] *= scale;
        }

        return Of(sum, 1, radius);
    }

    /// <summary>The polynomial that fits e^s at sampled logits with the weight e^(−s/2), half way from absolute to relative error.</summary>
    /// <param name="logits">The sample. Where fewer than g + 1 logits differ, the degree that they determine is fitted.</param>
    /// <param name="radius">R, as far as the error is looked at.</param>
    /// <remarks>In polynomials orthogonal over the sample (Forsythe 1957), in double-double, so that no normal equations are
    /// formed. There is no guarantee away from the sample.</remarks>
    public static ExpPolynomial LeastSquares(int degree, ReadOnlySpan<double> logits, double radius)
    {
        CheckDegree(degree);
        double scale = double.Epsilon;
        foreach (double s in logits)
        {
            scale = Math.Max(scale, Math.Abs(s));
        }

        int count = logits.Length;
        DoubleDouble[] x = new DoubleDouble[count], weight = new DoubleDouble[count], residual = new DoubleDouble[count];
        DoubleDouble[] before = new DoubleDouble[count], now = new DoubleDouble[count];
        for (int j = 0; j < count; j++)
        {
            x[j] = (DoubleDouble)logits[j] / scale;
            weight[j] = DoubleDouble.Exp(-logits[j]);
            residual[j] = DoubleDouble.Exp(logits[j]);
            now[j] = DoubleDouble.One;
        }

        // The same two polynomials as powers of x.
        DoubleDouble[] sum = new DoubleDouble[degree + 1], powersBefore = new DoubleDouble[degree + 1], powers = new DoubleDouble[degree + 1];
        powers[0] = DoubleDouble.One;
        DoubleDouble normBefore = DoubleDouble.One;
        double first = 0;
        for (int m = 0; m <= degree; m++)
        {
            DoubleDouble norm = DoubleDouble.Zero, product = DoubleDouble.Zero, moved = DoubleDouble.Zero;
            for (int j = 0; j < count; j++)
            {
                DoubleDouble weighed = weight[j] * now[j], square = weighed * now[j];
                norm += square;
                moved += square * x[j];
                product += weighed * residual[j];
            }

            // What is left of a polynomial that is 0 at every logit is its rounding.
            first = m == 0 ? norm.High : first;
            if (!(norm.High > first * 1e-50))
            {
                break;
            }

            DoubleDouble coefficient = product / norm, alpha = moved / norm, beta = m == 0 ? DoubleDouble.Zero : norm / normBefore;
            for (int j = 0; j < count; j++)
            {
                residual[j] -= coefficient * now[j];
                (before[j], now[j]) = (now[j], ((x[j] - alpha) * now[j]) - (beta * before[j]));
            }

            DoubleDouble[] next = new DoubleDouble[degree + 1];
            for (int k = 0; k <= m; k++)
            {
                sum[k] += coefficient * powers[k];
            }

            for (int k = 0; k <= Math.Min(m + 1, degree); k++)
            {
                next[k] = (k > 0 ? powers[k - 1] : DoubleDouble.Zero) - (alpha * powers[k]) - (beta * powersBefore[k]);
            }

            (powersBefore, powers, normBefore) = (powers, next, norm);
        }

        return Of(sum, scale, radius);
    }

    /// <summary>About 2 J_(g+1)(R), what relative minimax leaves; within 8 % where g + 1 > R.</summary>
    public static double ElementaryError(int degree, double radius)
    {
        double power = 2;
        for (int m = 1; m <= degree + 1; m++)
        {
            power *= radius / 2 / m;
        }

        return power * Math.Exp(-radius * radius / (4 * (degree + 2)));
    }

    /// <summary>I_m(R) = Σ (R/2)^(m+2k) / (k! (m+k)!), of positive terms.</summary>
    private static DoubleDouble Bessel(int m, double radius)
    {
        DoubleDouble half = radius / 2, term = DoubleDouble.InverseFactorial(m), sum = DoubleDouble.Zero;
        for (int i = 0; i < m; i++)
        {
            term *= half;
        }

        for (int k = 1; k < 200 && term.High > sum.High * 1e-34; k++)
        {
            sum += term;
            term = term * half * half / (DoubleDouble)((double)k * (k + m));
        }

        return sum;
    }

    /// <summary>Powers of s / <paramref name="scale"/> become powers of s, and the error on [−R, R] is sought.</summary>
    private static ExpPolynomial Of(DoubleDouble[] powers, double scale, double radius)
    {
        double[] a = new double[powers.Length];
        DoubleDouble power = DoubleDouble.One;
        for (int m = 0; m < a.Length; m++)
        {
            a[m] = (double)(powers[m] / power);
            power *= scale;
        }

        // The error turns at most g + 2 times, and beyond the ends least of all: between so many points it hides 0.1 % at most.
        // Where e^R leaves the range of double there is nothing to be near.
        int points = 128 * (a.Length + 1);
        double worst = radius < 300 ? 0 : double.PositiveInfinity;
        for (int i = 0; i <= points && double.IsFinite(worst); i++)
        {
            double t = (2.0 * i / points) - 1, s = radius * t * (3 - (t * t)) / 2;
            DoubleDouble value = powers[^1];
            for (int m = powers.Length - 2; m >= 0; m--)
            {
                value = (value * (s / scale)) + powers[m];
            }

            double error = Math.Abs((double)((value * DoubleDouble.Exp(-s)) - DoubleDouble.One));
            worst = double.IsNaN(error) ? double.PositiveInfinity : Math.Max(worst, error * 1.001);
        }

        return new(a, radius, worst);
    }

    private static void CheckDegree(int degree)
    {
        if (degree is < 1 or > MaxDegree)
        {
            throw new ArgumentOutOfRangeException(
                nameof(degree), $"degree = {degree}: a degree from 1 to {MaxDegree} is needed.");
        }
    }
}
