namespace Experiments.Results.Sweeps;

/// <summary>Finds the name that was meant by a mistyped one.</summary>
public static class NearestName
{
    /// <summary><c> Did you mean 'degree'?</c> with a space before it, or nothing when no name is near.</summary>
    public static string Hint(string given, IEnumerable<string> names) =>
        (Of(given, names) ?? Begun(given, names)) is string nearest ? $" Did you mean '{nearest}'?" : "";

    /// <summary>The nearest of <paramref name="names"/>, if at most a third of the letters given are wrong; else null.</summary>
    public static string? Of(string given, IEnumerable<string> names)
    {
        // Above a third of the letters wrong, a suggestion is a guess rather than a help.
        int most = Math.Max(1, (given.Length + 1) / 3);
        return names
            .Select(name => (Name: name, Distance: Distance(given, name)))
            .Where(c => c.Distance <= most && c.Distance < c.Name.Length)
            .OrderBy(c => c.Distance).ThenBy(c => c.Name, StringComparer.Ordinal)
            .Select(c => c.Name)
            .FirstOrDefault();
    }

    /// <summary>Edits between the two, a swap of neighbours counting one (optimal string alignment), without regard to case.</summary>
    public static int Distance(string a, string b)
    {
        if (a.Length > 64 || b.Length > 64)
        {
            return int.MaxValue;
        }

        int[,] d = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++)
        {
            for (int j = 0; j <= b.Length; j++)
            {
                if (i == 0 || j == 0)
                {
                    d[i, j] = i + j;
                    continue;
                }

                int cost = Same(a[i - 1], b[j - 1]) ? 0 : 1;
                d[i, j] = Math.Min(Math.Min(d[i - 1, j] + 1, d[i, j - 1] + 1), d[i - 1, j - 1] + cost);
                if (i > 1 && j > 1 && Same(a[i - 1], b[j - 2]) && Same(a[i - 2], b[j - 1]))
                {
                    d[i, j] = Math.Min(d[i, j], d[i - 2, j - 2] + 1);
                }
            }
        }

        return d[a.Length, b.Length];
    }

    /// <summary>The only name that begins with what was given, which is then an abbreviation rather than a slip.</summary>
    private static string? Begun(string given, IEnumerable<string> names)
    {
        List<string> begun = given.Length < 2
            ? [] : [.. names.Where(n => n.StartsWith(given, StringComparison.OrdinalIgnoreCase)).Distinct(StringComparer.Ordinal).Take(2)];
        return begun.Count == 1 ? begun[0] : null;
    }

    private static bool Same(char a, char b) =>
        char.ToLowerInvariant(a == '_' ? '-' : a) == char.ToLowerInvariant(b == '_' ? '-' : b);
}
