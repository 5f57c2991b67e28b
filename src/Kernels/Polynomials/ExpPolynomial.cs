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

    private static void CheckDegree(int degree)
    {
        if (degree is < 1 or > MaxDegree)
        {
            throw new ArgumentOutOfRangeException(
                nameof(degree), $"degree = {degree}: a degree from 1 to {MaxDegree} is needed.");
        }
    }
}
