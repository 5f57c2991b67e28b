namespace Experiments.Cluster.Tests.Matrix;

/// <summary>What is done to a cluster while it works.</summary>
internal enum Fault
{
    KillSilo,
    KillLeader,
    KillTwo,
    KillAll,
    BeforeLease,
    AfterLease,
    MidShard,
    BeforeCommit,
    AfterCommit,
    Terminate,
    Hang,
    HangLeader,
    CrashPostgres,
    KillBackend,
    KillRedis,
    LoseRedis,
    KillSubmit,
    KillWatch,
    SecondCluster,
}

/// <summary>Faults in a random order that a seed repeats, each kind as often as its share of fifty says.</summary>
internal sealed class Deck(int seed)
{
    private static readonly (Fault Fault, int Of50)[] Shares =
    [
        (Fault.KillSilo, 11), (Fault.KillLeader, 7), (Fault.KillTwo, 2), (Fault.KillAll, 2),
        (Fault.BeforeLease, 2), (Fault.AfterLease, 2), (Fault.MidShard, 2), (Fault.BeforeCommit, 2), (Fault.AfterCommit, 2),
        (Fault.Terminate, 2), (Fault.Hang, 1), (Fault.HangLeader, 1),
        (Fault.CrashPostgres, 3), (Fault.KillBackend, 2), (Fault.KillRedis, 2), (Fault.LoseRedis, 1), (Fault.KillSubmit, 3), (Fault.KillWatch, 1), (Fault.SecondCluster, 2),
    ];

    private readonly Queue<Fault> _left = new();

    public Random Random { get; } = new(seed);

    public Fault Draw()
    {
        if (_left.Count == 0)
        {
            Fault[] faults = [.. Shares.SelectMany(s => Enumerable.Repeat(s.Fault, s.Of50))];
            Random.Shuffle(faults);
            Array.ForEach(faults, _left.Enqueue);
        }

        return _left.Dequeue();
    }
}
