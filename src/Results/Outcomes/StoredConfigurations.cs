namespace Experiments.Results.Outcomes;

/// <summary>What a summary tells apart: a kernel's configuration at a size and a bound, and how its trials ended.</summary>
public readonly record struct StoredConfiguration(string Kernel, int N, int D, double? Bound, TrialStatus Status);

/// <summary>How often a process has stored each configuration of one sweep, so that the shards that a sample must not lack are known without
/// reading any trial. It is only in memory: a process that starts anew counts from none, and marks a few shards more.</summary>
public sealed class StoredConfigurations
{
    /// <summary>A configuration is wanted from so many shards, unless <see cref="EnoughTrials"/> are in fewer.</summary>
    public const int Enough = 3;

    // A median of so many says something; and where one shard has them, the rest of the sample is better left to chance.
    internal const int EnoughTrials = 30;

    // A summary of more has no reader, and what a process keeps of a sweep must not grow with its trials.
    private const int Most = 4096;

    private readonly Dictionary<StoredConfiguration, (int Shards, int Trials)> _stored = [];
    private readonly Lock _gate = new();

    /// <summary>In how many shards the rarest of these was, <see cref="Enough"/> where each was in enough; null where there are too many to count.</summary>
    public int? SeenBefore(IReadOnlyDictionary<StoredConfiguration, int> configurations)
    {
        lock (_gate)
        {
            return _stored.Count >= Most ? null : configurations.Keys.Select(ShardsOf).DefaultIfEmpty(Enough).Min();
        }
    }

    /// <summary>Counts what a shard held, once it is stored.</summary>
    public void Add(IReadOnlyDictionary<StoredConfiguration, int> configurations)
    {
        lock (_gate)
        {
            foreach ((StoredConfiguration configuration, int trials) in configurations)
            {
                if (_stored.Count < Most)
                {
                    (int shards, int before) = _stored.GetValueOrDefault(configuration);
                    _stored[configuration] = (Math.Min(shards + 1, Enough), Math.Min(before + trials, EnoughTrials));
                }
            }
        }
    }

    private int ShardsOf(StoredConfiguration configuration)
    {
        (int shards, int trials) = _stored.GetValueOrDefault(configuration);
        return trials >= EnoughTrials ? Enough : shards;
    }
}
