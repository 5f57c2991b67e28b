using System.Globalization;
using System.Numerics;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>The polynomial that the settings and the data call for.</summary>
internal static class LogitFit
{
    /// <summary>The choice, its degree known, and the polynomial.</summary>
    /// <exception cref="KernelFailure">The logits are not finite, or reach further than any polynomial on offer.</exception>
    public static unsafe (LowRankChoice Choice, ExpPolynomial Polynomial) Of<T>(
        LowRankChoice choice, AttentionProblem<T> problem, Projections<T> projections)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double bound = projections.Bound;
        if (!double.IsFinite(bound))
        {
            throw new KernelFailure("The bound on the logits is not finite: an input is not, or entries are too large.");
        }

        double radius = choice.Radius ?? bound;
        if (radius > ExpPolynomial.MaxRadius && (choice.IsAutomatic || LowRankChoice.OnInterval.Contains(choice.Basis)))
        {
            string degree = choice.IsAutomatic ? $"up to {ExpPolynomial.MaxDegree}" : $"{choice.Degree}";
            throw new KernelFailure(
                $"|logits| may reach {Text(radius)} (a bound from the data), where no polynomial of degree {degree} is near exp; "
                + $"fits go up to {ExpPolynomial.MaxRadius}. Lower the bound, or set radius to what the logits do reach.");
        }

        if (choice.IsAutomatic)
        {
            LowRankChoice chosen = choice.WithDegreeFor(radius) ?? throw new KernelFailure(
                $"No degree up to {ExpPolynomial.MaxDegree} of basis {choice.Basis} keeps the relative error of exp within "
                + $"{Text(choice.Tolerance)} for |logits| ≤ {Text(radius)}. Raise the tolerance or lower the bound.");
            try
            {
                chosen.ThrowIfTooLarge();
            }
            catch (ArgumentException error)
            {
                throw new KernelFailure($"A tolerance of {Text(choice.Tolerance)} for |logits| ≤ {Text(radius)}: {error.Message}");
            }

            return (chosen, chosen.Fit(radius));
        }

        switch (choice.Basis)
        {
            case "hermite":
                (double mean, double deviation) = projections.LogitMoments();
                return (choice, ExpPolynomial.Hermite(choice.Degree, mean, deviation, bound));
            case "least-squares":
                double[] logits = LogitSample.Draw(problem, projections.Queries, projections.MeanKey);
                return (choice, ExpPolynomial.LeastSquares(choice.Degree, logits, bound));
            default:
                return (choice, choice.Fit(radius));
        }
    }

    private static string Text(double value) => value.ToString("G4", CultureInfo.InvariantCulture);
}
