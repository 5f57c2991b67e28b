namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Some of the d + 1 columns, h and 1, as register tiles of 4, 3 or 2: never 1, which would leave multipliers idle.</summary>
/// <param name="First">The first column.</param>
/// <param name="Fours">How many tiles of four columns come first.</param>
/// <param name="Threes">How many tiles of three come next.</param>
/// <param name="Twos">How many tiles of two come last.</param>
internal readonly record struct Columns(int First, int Fours, int Threes, int Twos)
{
    public int Count => (4 * Fours) + (3 * Threes) + (2 * Twos);

    public static int TilesOf(int d) => All(d) is var all ? all.Fours + all.Threes + all.Twos : 0;

    /// <summary>All d + 1 of them.</summary>
    public static Columns All(int d) => (d + 1) switch
    {
        2 => new(0, 0, 0, 1),
        5 => new(0, 0, 1, 1),
        int count => new(0, count % 3, (count - (4 * (count % 3))) / 3, 0),
    };

    /// <summary>One of several groups of whole tiles.</summary>
    public static Columns Group(int d, int group, int groups)
    {
        Columns all = All(d);
        int tiles = all.Fours + all.Threes + all.Twos;
        int from = (int)((long)tiles * group / groups), to = (int)((long)tiles * (group + 1) / groups);
        Columns before = all.Head(from), upTo = all.Head(to);
        return new(before.Count, upTo.Fours - before.Fours, upTo.Threes - before.Threes, upTo.Twos - before.Twos);
    }

    private Columns Head(int tiles)
    {
        int fours = Math.Min(tiles, Fours), threes = Math.Min(tiles - fours, Threes);
        return new(0, fours, threes, tiles - fours - threes);
    }
}
