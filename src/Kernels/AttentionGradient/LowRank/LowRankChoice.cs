using System.Globalization;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>The settings of low-rank, understood and checked.</summary>
internal readonly record struct LowRankChoice(
    int Degree, bool Minimax, bool Reverse, bool Centred, double? Radius, int Features, int ValueFeatures)
{
    /// <summary>G, the highest degree of a moment.</summary>
    public int Top => Reverse ? Degree : Degree + 1;

    /// <exception cref="ArgumentException">A setting is missing, unknown or impossible.</exception>
    public static LowRankChoice Of(Settings settings, int d)
    {
        if (!settings.Has("degree"))
        {
            throw new ArgumentException("low-rank was given no degree. Name one, such as degree: 4.");
        }

        int degree = settings.Integer("degree", 0);
        if (degree is < 1 or > ExpPolynomial.MaxDegree)
        {
            throw new ArgumentException(
                $"degree = {degree}: low-rank takes a whole number from 1 to {ExpPolynomial.MaxDegree}.");
        }

        bool minimax = Word(settings, "basis", "minimax", "taylor") == "minimax";
        bool reverse = Word(settings, "form", "paper", "reverse") == "reverse";
        double? radius = settings.Has("radius") && minimax ? settings.Real("radius", 0) : null;
        if (radius is double given && !(given > 0 && given <= ExpPolynomial.MaxRadius))
        {
            throw new ArgumentException(
                $"radius = {given.ToString("R", CultureInfo.InvariantCulture)}: a number above 0 and up to {ExpPolynomial.MaxRadius} "
                + "is needed. Leave it out to have it computed from the data.");
        }

        int top = reverse ? degree : degree + 1;
        long features = Monomials.CountOf(d, top);
        if (!Fits(features, d))
        {
            int feasible = degree;
            while (feasible > 0 && !Fits(Monomials.CountOf(d, feasible + (top - degree)), d))
            {
                feasible--;
            }

            string count = features == long.MaxValue ? "more than 2^63" : features.ToString("N0", CultureInfo.InvariantCulture);
            throw new ArgumentException(
                $"degree = {degree} at d = {d} needs C({d + top}, {top}) = {count} monomials, each with d + 1 moments; one "
                + $"array holds 2^31 numbers. Lower the degree to {feasible} at most, or d.");
        }

        return new(degree, minimax, reverse, settings.Flag("centred", true), radius, (int)features,
            (int)Monomials.CountOf(d, degree));
    }

    private static bool Fits(long features, int d) => features <= (Array.MaxLength / (d + 1)) - 64;

    private static string Word(Settings settings, string name, string usual, string other)
    {
        string word = settings.Word(name, usual);
        return word == usual || word == other
            ? word
            : throw new ArgumentException($"{name} = {word}: low-rank knows {usual} and {other}.");
    }
}
