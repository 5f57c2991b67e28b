namespace Experiments.Results.Sweeps;

/// <summary>How trials are timed and what they are compared with: the <c>measure</c> block of a sweep file.</summary>
public sealed record Measure
{
    /// <summary>Fewer rows would not tell how far off their own estimates are: with 16 a standard error is known to a fifth.</summary>
    public const int FewestReferenceRows = 16;

    /// <summary>Interleaved rounds: each round times every kernel of the instance once, in turn.</summary>
    public int Rounds { get; init; } = 5;

    /// <summary>Least time measured per trial over its rounds; a sample repeats a fast kernel's call until its share is full.</summary>
    public TimeSpan MinTime { get; init; } = TimeSpan.FromMilliseconds(50);

    /// <summary>Rounds go on (up to four times <see cref="Rounds"/>) until the median's relative error is below this; 0 never adds any.</summary>
    public double MaxNoise { get; init; } = 0.02;

    public ReferenceMode Reference { get; init; } = ReferenceMode.ExactFloat64;

    /// <summary>Of how many rows the reference is computed, drawn for each instance (<c>reference: {rows: 4096}</c>), so that errors
    /// are estimates; null for all.</summary>
    public int? ReferenceRows { get; init; }

    /// <summary>Whether several shards may be timed side by side on one silo.</summary>
    public bool Sharing { get; init; }

    /// <summary>Of how many rows the instance's reference is; null for all, as where it has no more rows than are asked for.</summary>
    public int? RowsOf(InstanceSpec instance)
    {
        ArgumentNullException.ThrowIfNull(instance);
        return Reference == ReferenceMode.ExactFloat64 && ReferenceRows < instance.N ? ReferenceRows : null;
    }

    /// <summary>What the instance's reference is stored under: that of a sample is never taken for the whole.</summary>
    public Guid ReferenceKeyOf(InstanceSpec instance) =>
        RowsOf(instance) is int rows ? Identity.KeyOfReference(instance.Key, rows) : instance.Key;
}

public enum ReferenceMode
{
    /// <summary><c>exact-float64</c>: the exact kernel in double, once per instance; of a sample of its rows where
    /// <see cref="Measure.ReferenceRows"/> says so.</summary>
    ExactFloat64,

    /// <summary><c>none</c>: no errors are measured.</summary>
    None,
}

/// <summary>What a trial may use before it is stopped or skipped: the <c>limits</c> block of a sweep file.</summary>
public sealed record Limits
{
    public TimeSpan TrialTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>Bytes a trial may need, by prediction, before it is skipped; null means three quarters of what the machine has free.</summary>
    public long? MemoryBytes { get; init; }

    /// <summary>How often a trial that threw is tried again before it is stored as failed. A wrong answer is not retried.</summary>
    public int Retries { get; init; } = 2;
}
