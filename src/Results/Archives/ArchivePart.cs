namespace Experiments.Results.Archives;

/// <summary>What an import puts in the place of a field that leads a row.</summary>
internal enum Lead
{
    /// <summary>The sweep's number: another in every store.</summary>
    Sweep,

    /// <summary>A node's number: that of the same process in the store that imports.</summary>
    Node,

    /// <summary>What the sweep was submitted as: kept, or a new one for a second copy.</summary>
    Submission,

    /// <summary>A reference's key: a row whose key the store knows is left out.</summary>
    KnownKey,
}

/// <summary>One table's rows in an archive: a file of that name, in the text format of COPY.</summary>
/// <param name="Statement">The file of Store/Sql that reads it.</param>
/// <param name="Leads">The columns that come first, and what an import does with them.</param>
internal sealed record ArchivePart(string Table, string Statement, params (string Column, Lead Lead)[] Leads)
{
    internal static readonly ArchivePart Sweep = new("sweep", "archive-sweep", ("submission", Lead.Submission));
    internal static readonly ArchivePart Node = new("node", "archive-node");
    internal static readonly ArchivePart Reference = new("reference", "archive-reference", ("instance_key", Lead.KnownKey));

    /// <summary>In the order in which they are written and read: what others name comes before them.</summary>
    internal static readonly IReadOnlyList<ArchivePart> All =
    [
        Sweep,
        Node,
        new("shard", "archive-rows", ("sweep_id", Lead.Sweep), ("node_id", Lead.Node)),
        new("trial", "archive-rows", ("sweep_id", Lead.Sweep), ("node_id", Lead.Node)),
        new("trial_attempt", "archive-rows", ("sweep_id", Lead.Sweep), ("node_id", Lead.Node)),
        new("sample", "archive-rows", ("sweep_id", Lead.Sweep)),
        new("span", "archive-span", ("sweep_id", Lead.Sweep)),
        Reference,
    ];

    internal string FileName => $"{Table}.tsv";
}
