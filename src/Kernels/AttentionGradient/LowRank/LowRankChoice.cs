using System.Globalization;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>The settings of low-rank, and of its dense emulation, understood and checked.</summary>
/// <param name="Degree">g, or 0 where it is to be the least that meets <paramref name="Tolerance"/>.</param>
/// <param name="Tolerance">What the relative error of exp may be where the degree is automatic.</param>
/// <param name="Radius">R if given, else null: from the data.</param>
/// <param name="Dense">Whether the polynomial is evaluated on single logits, so that its monomials need no room.</param>
internal readonly record struct LowRankChoice(
    int D, int Degree, double Tolerance, string Basis, bool Reverse, bool Centred, double? Radius,
    bool Dense = false)
{
    public const string Auto = "auto";
    public const double UsualTolerance = 1e-6;

    /// <summary>The bases, the usual one first.</summary>
    public static readonly IReadOnlyList<string> Bases = ["minimax", "taylor", "chebyshev", "hermite", "least-squares"];

    /// <summary>Those that are fitted to an interval, which may be given.</summary>
    public static readonly IReadOnlyList<string> OnInterval = ["minimax", "chebyshev"];

    /// <summary>Those whose coefficients depend on R alone, so that a degree can be chosen by it.</summary>
    private static readonly IReadOnlyList<string> ByRadius = ["minimax", "taylor", "chebyshev"];

    public bool IsAutomatic => Degree == 0;

    /// <summary>G, the highest degree of a moment.</summary>
    public int Top => Reverse ? Degree : Degree + 1;

    /// <summary>K, the monomials of degree up to G.</summary>
    public int Features => (int)Monomials.CountOf(D, Top);

    /// <summary>k, the monomials of degree up to g.</summary>
    public int ValueFeatures => (int)Monomials.CountOf(D, Degree);

    /// <exception cref="ArgumentException">A setting is missing, unknown or impossible.</exception>
    public static LowRankChoice Of(Settings settings, int d, bool dense = false)
    {
        string kernel = dense ? "dense-polynomial" : "low-rank";
        if (!settings.Has("degree"))
        {
            throw new ArgumentException($"{kernel} was given no degree. Name one, such as degree: 4, or degree: auto.");
        }

        bool automatic = settings.Values["degree"] is Auto;
        int degree = automatic ? 0 : settings.Integer("degree", 0);
        if (!automatic && degree is < 1 or > ExpPolynomial.MaxDegree)
        {
            throw new ArgumentException(
                $"degree = {degree}: {kernel} takes a whole number from 1 to {ExpPolynomial.MaxDegree}, or auto.");
        }

        string basis = Word(kernel, settings, "basis", Bases);
        bool reverse = Word(kernel, settings, "form", ["paper", "reverse"]) == "reverse";
        double? radius = settings.Has("radius") && OnInterval.Contains(basis) ? settings.Real("radius", 0) : null;
        if (radius is double given && !(given > 0 && given <= ExpPolynomial.MaxRadius))
        {
            throw new ArgumentException(
                $"radius = {Text(given)}: a number above 0 and up to {ExpPolynomial.MaxRadius} is needed. Leave it out to have it "
                + "computed from the data.");
        }

        double tolerance = settings.Real("tolerance", UsualTolerance);
        LowRankChoice choice = new(d, degree, tolerance, basis, reverse, settings.Flag("centred", true), radius, dense);
        if (!automatic)
        {
            choice.ThrowIfTooLarge();
            return choice;
        }

        if (!ByRadius.Contains(basis))
        {
            throw new ArgumentException(
                $"degree = auto with basis {basis}: its error on [−R, R] has no law to choose by. Name a degree, or one of the bases "
                + $"{string.Join(", ", ByRadius)}.");
        }

        return tolerance > 0 && tolerance < 1
            ? choice
            : throw new ArgumentException($"tolerance = {Text(tolerance)}: a number above 0 and below 1 is needed, such as 1e-6.");
    }

    /// <summary>The polynomial of this choice for |logits| ≤ R, where R alone decides it.</summary>
    public ExpPolynomial Fit(double radius) => Basis switch
    {
        "minimax" => ExpPolynomial.Minimax(Degree, radius),
        "chebyshev" => ExpPolynomial.Chebyshev(Degree, radius),
        _ => ExpPolynomial.Taylor(Degree, radius),
    };

    /// <summary>This choice with the least degree whose error for |logits| ≤ R is within the tolerance; null if none is.</summary>
    public LowRankChoice? WithDegreeFor(double radius)
    {
        if (!(radius <= ExpPolynomial.MaxRadius))
        {
            return null;
        }

        // What relative minimax leaves bounds the others from below, so that no degree need be tried that it rules out.
        int degree = 1;
        while (degree < ExpPolynomial.MaxDegree && degree + 1 > radius
            && ExpPolynomial.ElementaryError(degree, radius) > 2 * Tolerance)
        {
            degree++;
        }

        for (; degree <= ExpPolynomial.MaxDegree; degree++)
        {
            LowRankChoice chosen = this with { Degree = degree };
            if (chosen.Fit(radius).RelativeError <= Tolerance)
            {
                return chosen;
            }
        }

        return null;
    }

    /// <summary>This choice with the highest degree that there is room for: what an automatic one may come to.</summary>
    public LowRankChoice WithHighestDegree()
    {
        LowRankChoice choice = this with { Degree = ExpPolynomial.MaxDegree };
        while (!Dense && choice.Degree > 1 && !Fits(Monomials.CountOf(D, choice.Top), D))
        {
            choice = choice with { Degree = choice.Degree - 1 };
        }

        choice.ThrowIfTooLarge();
        return choice;
    }

    /// <exception cref="ArgumentException">The moments do not fit an array.</exception>
    public void ThrowIfTooLarge()
    {
        long features = Monomials.CountOf(D, Top);
        if (Dense || Fits(features, D))
        {
            return;
        }

        int feasible = Degree;
        while (feasible > 0 && !Fits(Monomials.CountOf(D, feasible + (Top - Degree)), D))
        {
            feasible--;
        }

        string count = features == long.MaxValue ? "more than 2^63" : features.ToString("N0", CultureInfo.InvariantCulture);
        throw new ArgumentException(
            $"degree = {Degree} at d = {D} needs C({D + Top}, {Top}) = {count} monomials, each with d + 1 moments; one "
            + $"array holds 2^31 numbers. {(feasible < 1 ? "Lower d." : $"Lower the degree to {feasible} at most, or d.")}");
    }

    private static bool Fits(long features, int d) => features <= (Array.MaxLength / (d + 1)) - 64;

    private static string Text(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    private static string Word(string kernel, Settings settings, string name, IReadOnlyList<string> known)
    {
        string word = settings.Word(name, known[0]);
        return known.Contains(word)
            ? word
            : throw new ArgumentException($"{name} = {word}: {kernel} knows {string.Join(", ", known)}.");
    }
}
