using System.Globalization;
using System.Text.Json;
using Experiments.Results.Store;

namespace Experiments.Client.Summaries;

/// <summary>Which parts of the configurations differ, so that a label says only what tells them apart.</summary>
internal sealed record Varying(bool Precision, bool Threads, bool Basis, bool Form, bool Centred, bool Radius)
{
    public static Varying Among(IReadOnlyCollection<KernelConfiguration> all) => new(
        Several(all.Select(c => (object?)c.Precision)),
        Several(all.Select(c => (object?)c.Threads)),
        Several(all.Where(c => c.Basis is not null).Select(c => (object?)c.Basis)),
        Several(all.Where(c => c.Form is not null).Select(c => (object?)c.Form)),
        Several(all.Where(c => c.Centred is not null).Select(c => (object?)c.Centred)),
        // Without one it is fitted to the data; a kernel that never has one says nothing of it.
        all.Where(c => c.Radius is not null).Any(c => Several(all.Where(o => o.Kernel == c.Kernel).Select(o => (object?)o.Radius))
            || all.Any(o => o.Radius is not null && o.Radius != c.Radius)));

    /// <summary>Whether its errors and its speed-up over exact are worth a table: not of what computes the gradient as it is defined.</summary>
    public static bool IsApproximate(KernelConfiguration configuration) => configuration.Kernel is not ("exact" or "reference");

    /// <summary>For a person, without what all the others share: <c>low-rank taylor paper degree 4</c>.</summary>
    public string Label(KernelConfiguration c)
    {
        List<string> parts = [c.Kernel];
        if (Precision)
        {
            parts.Add(c.Precision);
        }

        if (c.Basis is not null && Basis)
        {
            parts.Add(c.Basis);
        }

        if (c.Form is not null && Form)
        {
            parts.Add(c.Form);
        }

        if (c.Centred is bool centred && Centred)
        {
            parts.Add(centred ? "centred" : "uncentred");
        }

        if (c.Radius is double radius && Radius)
        {
            parts.Add(string.Create(CultureInfo.InvariantCulture, $"radius {radius}"));
        }

        if (c.Degree is int degree)
        {
            parts.Add(string.Create(CultureInfo.InvariantCulture, $"degree {degree}"));
        }

        if (c.Parameters is not null)
        {
            // Settings without a column of their own: "features 256 orthogonal true".
            using JsonDocument others = JsonDocument.Parse(c.Parameters);
            parts.AddRange(others.RootElement.EnumerateObject().OrderBy(p => p.Name, StringComparer.Ordinal)
                .Select(p => $"{p.Name} {Written(p.Value)}"));
        }

        if (Threads)
        {
            parts.Add(string.Create(CultureInfo.InvariantCulture, $"{c.Threads} thread{(c.Threads == 1 ? "" : "s")}"));
        }

        return string.Join(' ', parts);
    }

    // As a sweep file has it: a tolerance of 1e-6 is that, not 0.000001.
    private static string? Written(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => value.GetString(),
        JsonValueKind.Number => value.GetDouble() is double number && number != 0 && Math.Abs(number) < 0.1
            ? number.ToString("0.################e-0", CultureInfo.InvariantCulture) : value.GetRawText(),
        _ => value.GetRawText(),
    };

    private static bool Several(IEnumerable<object?> values) => values.Distinct().Skip(1).Any();
}

/// <summary>What a sweep found, in words that a person reads.</summary>
internal sealed record Summary(SweepSummary Stored)
{
    public Varying Varying { get; } = Varying.Among([.. Stored.Configurations.Select(c => c.Configuration)]);

    /// <summary>Sentences on where an approximate kernel overtakes the exact one, when the sweep varied n.</summary>
    public IReadOnlyList<string> Crossings()
    {
        List<string> sentences = [];
        bool severalD = Stored.Sizes.Select(s => s.D).Distinct().Skip(1).Any();
        foreach (IGrouping<(KernelConfiguration Configuration, int? D), SummaryCell> series in Stored.Sizes
            .Where(s => Varying.IsApproximate(s.Configuration) && s.Speedup is not null)
            .GroupBy(s => (s.Configuration, s.D)))
        {
            List<SummaryCell> cells = [.. series.OrderBy(s => s.N)];
            if (cells.Count < 2)
            {
                continue;
            }

            // A degree that is chosen grows with the bound, and the time with it.
            bool pooled = series.Key.Configuration.Degree is null && cells.Any(c => c.FittedDegreeMin != c.FittedDegreeMax);
            string who = Varying.Label(series.Key.Configuration) + (severalD ? $" at d = {series.Key.D}" : "") + (pooled ? ", all its bounds together," : "");
            // The last size at which it still loses: a lucky smaller one is not an overtaking.
            int last = cells.FindLastIndex(s => s.Speedup!.Mean <= 1);
            sentences.Add(last == -1 ? $"{who} is faster than exact at every n from {cells[0].N}"
                : last == cells.Count - 1 ? $"{who} is not faster than exact up to n = {cells[^1].N}"
                : $"{who} overtakes exact between n = {cells[last].N} and n = {cells[last + 1].N}");
        }

        return sentences;
    }
}
