namespace Experiments.Grains.Running;

/// <summary>How a process is started that computes shards for this one: see <see cref="IsolatedLane"/>.</summary>
/// <param name="Command">The program and its arguments.</param>
/// <param name="Environment">What differs from our own; null takes a variable away.</param>
public sealed record IsolationOptions(IReadOnlyList<string> Command, IReadOnlyDictionary<string, string?> Environment)
{
    /// <summary>How long a process that nothing is asked of is kept for the next shard.</summary>
    public TimeSpan KeepIdle { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How much longer than twice its limit a trial may take before its process is killed.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(10);
}
