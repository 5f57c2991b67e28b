namespace Experiments.Grains.Worker;

/// <summary>How a silo's worker leases.</summary>
public sealed record SweepWorkerOptions
{
    /// <summary>How long a lease lasts unless renewed: what the shards of a process that hangs wait for. A dead one is noticed sooner, by its
    /// liveness lock.</summary>
    public TimeSpan Lease { get; init; } = TimeSpan.FromSeconds(12);

    public TimeSpan RenewEvery { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>How often the sweep's state is looked at without being told that it has changed: what a cancellation elsewhere takes to arrive
    /// while the connection that listens is lost.</summary>
    public TimeSpan LookEvery { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long the first interruption lets running shards go on.</summary>
    public TimeSpan FinishWithin { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>How long a cancelled kernel may take to notice before the process stops waiting for it.</summary>
    public TimeSpan GiveUpAfter { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a lane waits for the store to note that it begins a shard, before it begins all the same.</summary>
    public TimeSpan SayBegunWithin { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Whether a store that is away when the silo starts is waited for, as a cluster's silo does, or is the end of it, as for a command
    /// that somebody watches.</summary>
    public bool WaitsForStore { get; init; }

    /// <summary>How long a session keeps what it holds while the store is away, beyond the store's own retries: for a cluster's silo as long as
    /// a server takes to be mended; for a command none, whose user is told.</summary>
    public TimeSpan StorePatience { get; init; }

    /// <summary>Computed shards that may wait for their commit while lanes go on.</summary>
    public int CommitsInFlight { get; init; } = 4;
}
