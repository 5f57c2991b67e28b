using System.Collections.Concurrent;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Which features of a key are stored, how they are made, and where each sum over keys stands.</summary>
/// <remarks>
/// Monomials below the top degree G are stored, and so are those of degree G that begin with one of the last variables, whose
/// ranges would not fill vectors. Every other range of degree G is never made: the moment of x_i φ with h is that of φ with
/// x_i h, so that it costs d + 1 products a key, not the range's length. Sums stand in slots: a slot a stored feature, then a
/// run of whole vectors for each range not stored.
/// </remarks>
internal sealed class FeaturePlan
{
    // Ranges of degree G shorter than so many vectors are stored: there padding would cost more than making them.
    private const int LeastVectors = 4;
    private const int CacheLimit = 64;

    // Of as many keys as a tile has, so many features fill a part of the level-1 cache.
    private const int FeaturesPerStep = 64;

    private static readonly ConcurrentDictionary<(int D, int Top, int Lanes), FeaturePlan> Cache = new();

    private FeaturePlan(int d, int top, int lanes)
    {
        Table = Monomials.Of(d, top);
        D = d;
        Lanes = lanes;
        int below = Table.FirstOfDegree[top];
        while (Implied < d && Length(top, Implied) >= LeastVectors * lanes)
        {
            Implied++;
        }

        // Degree G - 1 begins at a whole vector, since the ranges that begin there are read for each variable again.
        Lead = (lanes - (Start(top - 1, 0) % lanes)) % lanes;
        List<Growth> growths = [];
        List<Run> runs = [new(Lead, 0, below)];
        List<Piece> pieces = [];
        Stored = Lead + below;
        for (int m = 2; m < top; m++)
        {
            for (int i = 0; i < d; i++)
            {
                Grow(growths, Start(m - 1, i), Start(m, i), Length(m, i), i);
            }
        }

        // At degree 1 the features are the key itself.
        int firstTail = Implied < d ? Table.Starts[(top * d) + Implied] : Table.Count;
        if (firstTail < Table.Count)
        {
            runs.Add(new(Lead + below, firstTail, Table.Count - firstTail));
            for (int i = Implied; i < d && top > 1; i++)
            {
                Grow(growths, Start(top - 1, i), below + Start(top, i) - firstTail, Length(top, i), i);
            }

            Stored += Table.Count - firstTail;
        }

        Cut(pieces, 0, 0, Vectors(Stored), 0);
        Slots = Vectors(Stored) * lanes;
        for (int i = 0; i < Implied; i++)
        {
            int vectors = Vectors(Length(top, i));
            runs.Add(new(Slots, Table.Starts[(top * d) + i], Length(top, i)));
            Cut(pieces, Lead + Start(top - 1, i), Slots, vectors, i + 1);
            Slots += vectors * lanes;
        }

        Growths = [.. growths];
        Runs = [.. runs];
        Pieces = [.. pieces.OrderBy(piece => piece.Feature + (piece.Vectors * lanes))];
        Steps = [.. MakeSteps()];
    }

    /// <summary>Monomials of degree up to G.</summary>
    public Monomials Table { get; }

    public int D { get; }

    public int Lanes { get; }

    /// <summary>How many ranges of degree G, those of the first variables, are not stored.</summary>
    public int Implied { get; }

    /// <summary>Where a key's first feature, 1, stands; before it are zeros.</summary>
    public int Lead { get; }

    /// <summary>How many numbers are stored for a key.</summary>
    public int Stored { get; }

    /// <summary>How many sums there are to a column, whole vectors for every range.</summary>
    public int Slots { get; }

    /// <summary>How features are made, in their order.</summary>
    public Growth[] Growths { get; }

    /// <summary>All products with factors, in the order in which their features are made.</summary>
    public Piece[] Pieces { get; }

    /// <summary>Some growths and then the products that can be made after them, while the features are in the level-1 cache.</summary>
    public Step[] Steps { get; }

    public Run[] Runs { get; }

    public static FeaturePlan Of(int d, int top, int lanes)
    {
        if (Cache.TryGetValue((d, top, lanes), out FeaturePlan? known))
        {
            return known;
        }

        FeaturePlan made = new(d, top, lanes);
        if (Monomials.IsKept(made.Table.Count))
        {
            if (Cache.Count >= CacheLimit)
            {
                Cache.Clear();
            }

            Cache.TryAdd((d, top, lanes), made);
        }

        return made;
    }

    private int Start(int m, int i) => m == 0 ? 0 : Table.Starts[(m * D) + i];

    /// <summary>How many monomials of degree m begin with x_i: as many as there are parents for them.</summary>
    private int Length(int m, int i) => Table.FirstOfDegree[m] - Start(m - 1, i);

    private int Vectors(int count) => (count + Lanes - 1) / Lanes;

    private void Grow(List<Growth> growths, int from, int to, int length, int variable)
    {
        for (int t = 0; t < length; t += Lanes)
        {
            growths.Add(new(Lead + from + t, Lead + to + t, variable));
        }
    }

    /// <summary>Three vectors to a piece, or two where one would be left: one alone would wait for its own last sum.</summary>
    private void Cut(List<Piece> pieces, int feature, int slot, int vectors, int panel)
    {
        int done = 0;
        while (done < vectors)
        {
            int left = vectors - done, next = left is 2 or 4 ? 2 : Math.Min(left, 3);
            pieces.Add(new(feature + (done * Lanes), slot + (done * Lanes), next, panel));
            done += next;
        }
    }

    private IEnumerable<Step> MakeSteps()
    {
        int growth = 0, piece = 0;
        for (int upTo = FeaturesPerStep; piece < Pieces.Length; upTo += FeaturesPerStep)
        {
            int lastPiece = piece, lastGrowth = growth;
            while (lastPiece < Pieces.Length && End(Pieces[lastPiece]) <= upTo)
            {
                lastPiece++;
            }

            if (lastPiece == piece)
            {
                continue;
            }

            while (lastGrowth < Growths.Length && Growths[lastGrowth].To < End(Pieces[lastPiece - 1]))
            {
                lastGrowth++;
            }

            yield return new(growth, lastGrowth - growth, piece, lastPiece - piece);
            (growth, piece) = (lastGrowth, lastPiece);
        }

        int End(Piece p) => p.Feature + (p.Vectors * Lanes);
    }

    /// <summary>A vector of features is x_Variable times another.</summary>
    public readonly record struct Growth(int From, int To, int Variable);

    /// <summary>Sums of one to three vectors of features with factors of a panel: 0 is (h, 1), i + 1 is x_i (h, 1).</summary>
    public readonly record struct Piece(int Feature, int Slot, int Vectors, int Panel);

    /// <summary>Runs of <see cref="Growths"/> and of <see cref="Pieces"/>.</summary>
    public readonly record struct Step(int Growth, int Growths, int Piece, int Pieces);

    /// <summary>Neighbouring slots hold neighbouring monomials.</summary>
    public readonly record struct Run(int Slot, int Monomial, int Length);
}
