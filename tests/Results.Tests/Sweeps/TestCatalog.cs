using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Sweeps;

/// <summary>A catalog made by hand, shaped like the real one.</summary>
internal static class TestCatalog
{
    public static readonly Catalog Catalog = new(
        [
            new("uniform", "Entries uniform.", [], NeedsBound: true),
            new("gaussian", "Entries normal.", [], NeedsBound: true),
            new("corner", "Entries at the bound.", [], NeedsBound: true),
            new("planted", "A few large logits.",
                [
                    Axis("planted_keys", AxisKind.Integer, "How many.", 1L, 1, 1000),
                    Axis("planted_rows", AxisKind.Integer, "How many rows.", 4L, 1) with { NoMoreThan = "n" },
                ],
                NeedsBound: true),
            new("files", "Matrices from files.", [], NeedsBound: false),
        ],
        [
            new("exact", "The exact gradient.", [], (i, _) => new Prediction(8.0 * i.N * i.N * i.D, 8.0 * i.N, null)),
            new("reference", "The textbook loops.", [], (i, _) => new Prediction(20.0 * i.N * i.N * i.D, 8.0 * i.N * i.N, null)),
            new("low-rank", "Streamed moments.",
                [
                    Axis("degree", AxisKind.Integer, "Degree g of the polynomial.", null, 1, 24) with { Required = true, Word = "auto" },
                    Axis("tolerance", AxisKind.Real, "What an automatic degree keeps.", 1e-6, 1e-15, 0.5)
                        with { AppliesTo = ("degree", ["auto"]) },
                    Axis("basis", AxisKind.Choice, "Where the coefficients come from.", "minimax") with { Choices = ["taylor", "minimax"] },
                    Axis("form", AxisKind.Choice, "Which gradient.", "paper") with { Choices = ["paper", "reverse"] },
                    Axis("centred", AxisKind.Flag, "Whether the mean key is subtracted.", true),
                    Axis("radius", AxisKind.Real, "R, what the polynomial is fitted for.", null, double.Epsilon)
                        with { AppliesTo = ("basis", ["minimax"]) },
                ],
                Predict),
        ]);

    private static AxisDefinition Axis(
        string name, AxisKind kind, string summary, object? otherwise, double least = double.NegativeInfinity,
        double most = double.PositiveInfinity) =>
        new(name, kind, summary, otherwise, least, most, [], null, Required: false);

    private static Prediction Predict(InstanceSpec instance, TrialSpec trial)
    {
        long degree = trial.Settings["degree"] is long given ? given : 8;
        double rank = 1;
        for (long i = 1; i <= degree; i++)
        {
            rank = rank * (instance.D + i) / i;
        }

        if (rank > 1e9)
        {
            throw new ArgumentException($"Degree {degree} at d={instance.D} has a rank of {rank:G3}; at most 1e9 is possible. Lower the degree.");
        }

        return new Prediction(30 * rank * instance.N, rank * 8 * (instance.D + 1), (long)Math.Round(rank));
    }
}
