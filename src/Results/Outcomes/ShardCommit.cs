using Experiments.Results.Store;

namespace Experiments.Results.Outcomes;

/// <summary>The right to run one shard, until it is renewed, released, committed or fenced.</summary>
/// <param name="Epoch">The fencing token: grows with every grant.</param>
/// <param name="StoredTrials">How many of its trials are stored already (a retry or an extension): those are not run again.</param>
public sealed record ShardLease(
    long SweepId, int Shard, int Epoch, long FirstInstance, long EndInstance, long FirstTrial, int Trials, int StoredTrials)
{
    /// <summary>Which of the sweep's specifications its instances are counted in: 0 is the first, the others are extensions.</summary>
    public int Part { get; init; }

    /// <summary>Which of its instances' trials are its own, by their place among all of them, ascending; null for all.</summary>
    public IReadOnlyList<int>? Only { get; init; }

    /// <summary>How many processes have ended while they computed it. One that was only stopped or lost sight of is none of them.</summary>
    public int Deaths { get; init; }

    /// <summary>Whether a trial of its sweep is known to kill its process, or two have died with another shard that is not done yet.</summary>
    public bool SweepIsolated { get; init; }

    /// <summary>The number of the trial at a place among all of its instances' trials; null when the trial is not this shard's.</summary>
    public long? NumberOf(int place) => NumberOf(FirstTrial, Only, place);

    /// <inheritdoc cref="NumberOf(int)"/>
    public static long? NumberOf(long firstTrial, IReadOnlyList<int>? only, int place)
    {
        if (only is null)
        {
            return firstTrial + place;
        }

        (int low, int high) = (0, only.Count);
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = only[middle] < place ? (middle + 1, high) : (low, middle);
        }

        return low < only.Count && only[low] == place ? firstTrial + low : null;
    }
}

/// <summary>Everything of one shard that is stored in one transaction.</summary>
public sealed record ShardCommit(ShardRows Rows, IReadOnlyList<SpanRecord> Spans, IReadOnlyList<ReferenceRecord> References)
{
    public ShardLease Lease => Rows.Lease;

    public int NodeId => Rows.NodeId;

    /// <summary>Whether one of the outcomes is that a trial killed its process: from now on the sweep's shards are leased to be isolated.</summary>
    public bool Kills { get; init; }

    /// <summary>In how many shards its node has stored the rarest of its configurations before: see <see cref="StoredConfigurations"/>.</summary>
    public int? SeenBefore { get; init; }
}

public enum CommitResult
{
    /// <summary>Stored now, or stored before by this very lease whose acknowledgement was lost.</summary>
    Stored,

    /// <summary>Another lease holds or has stored the shard; nothing was written and the outcomes must be dropped.</summary>
    Fenced,
}
