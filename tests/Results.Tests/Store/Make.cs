using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Store;

/// <summary>Sweeps, shards and outcomes as the store sees them.</summary>
internal static class Make
{
    private static readonly DateTimeOffset Start = new(2026, 1, 2, 3, 4, 5, TimeSpan.Zero);
    private static readonly Dictionary<string, object> None = [];

    internal static readonly TimeSpan LongLease = TimeSpan.FromMinutes(5);

    internal static NewSweep Sweep(long trials, string name = "test", string specification = """{"name":"test"}""") => new(
        name, "Does it hold?", 7, specification, Guid.NewGuid(), "name: test", trials, trials, null, null);

    internal static List<ShardPlan> Shards(int count, int trialsEach) =>
        [.. Enumerable.Range(0, count).Select(i => new ShardPlan(i, i, i + 1, (long)i * trialsEach, trialsEach, 1))];

    internal static Task<long> SweepAsync(ResultStore store, int shards, int trialsEach) =>
        store.CreateSweepAsync(Sweep((long)shards * trialsEach), Shards(shards, trialsEach), CancellationToken.None);

    internal static Task<int> NodeAsync(ResultStore store, string facts = "{}") =>
        store.RegisterNodeAsync(new NodeRow("node", "host", Environment.ProcessId, facts), told: null, CancellationToken.None);

    internal static TrialOutcome Outcome(long trial, TrialStatus status = TrialStatus.Done) => new()
    {
        Trial = trial,
        InstanceIndex = trial / 4,
        Instance = new InstanceSpec("uniform", 256 << (int)(trial % 3), 4, 0.5 + (trial % 5), (int)(trial / 4), 7, None, None),
        Spec = trial % 4 == 0
            ? new TrialSpec("exact", "float32", 1, None)
            : new TrialSpec("low-rank", "float32", 1, new Dictionary<string, object>
            {
                ["degree"] = 2 * (trial % 4), ["basis"] = "taylor", ["form"] = "paper", ["centred"] = true,
            }),
        Status = status,
        Reason = status == TrialStatus.Done ? null : "it was told to",
        SecondsMin = 0.001,
        SecondsMedian = 0.0011 * (1 + (trial % 3)),
        SecondsMad = 0.0001,
        Samples = [0.001, 0.0011, 0.0012],
        CoreSeconds = 0.0011,
        Flops = 1e6,
        StateBytes = 4096,
        Rank = trial % 4 == 0 ? null : 15,
        MaxLogit = 1.5,
        RmsLogit = 0.5,
        BoundMeasured = 1,
        Loss = 0.25,
        GradientAbsoluteError = 1e-6,
        GradientRelativeError = trial % 4 == 0 ? 1e-7 : Math.Pow(10, -(trial % 4)),
        LossRelativeError = 1e-7,
        ForwardRelativeError = 1e-7,
        MinRowSumOverN = 0.9,
        NonPositiveRowSums = 0,
        FittedRadius = trial % 4 == 0 ? null : 2,
        PredictedExpError = trial % 4 == 0 ? null : 1e-3,
        TheoremBound = trial % 4 == 0 ? null : 1e-2,
        TheoremSlack = trial % 4 == 0 ? null : 1e4,
        SpeedupOverExact = trial % 4 == 0 ? null : 1.5 + (0.001 * trial),
        ProjectSeconds = 0.0002,
        MomentsSeconds = 0.0003,
        RowsSeconds = 0.0004,
        ReduceSeconds = 0.0001,
        Digest = new Guid((int)trial, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        StartedAt = Start.AddSeconds(trial),
        SpanId = 0x8000000000000001UL + (ulong)trial,
    };

    internal static ShardCommit Commit(ShardLease lease, int node, TrialStatus status = TrialStatus.Done, IEnumerable<long>? trials = null) =>
        Commit(lease, node, (trials ?? Enumerable.Range(0, lease.Trials).Select(i => lease.FirstTrial + i)).Select(t => Outcome(t, status)));

    internal static ShardCommit Commit(ShardLease lease, int node, IEnumerable<TrialOutcome> outcomes, params SpanRecord[] spans) =>
        new(ShardRows.Of(lease, node, Guid.NewGuid(), outcomes), spans.Length == 0 ? [Span(lease)] : spans, []);

    /// <summary>All of a shard's trials, done but for what is changed, by their places in the shard.</summary>
    internal static ShardCommit Commit(ShardLease lease, int node, Action<int, TrialOutcome> change)
    {
        TrialOutcome[] outcomes = [.. Enumerable.Range(0, lease.Trials).Select(i => Outcome(lease.FirstTrial + i))];
        foreach ((int place, TrialOutcome outcome) in outcomes.Index())
        {
            change(place, outcome);
        }

        return Commit(lease, node, outcomes);
    }

    internal static SpanRecord Span(ShardLease lease, string name = "shard", string? attributes = """{"a":1}""") => new(
        Guid.NewGuid(), 0xF000000000000001UL, 0, name, "internal", Start, 0.5, null, lease.SweepId, lease.Shard, null, attributes);

    internal static async Task<ShardLease> GrantOneAsync(ResultStore store, long sweep, int shard, int node) =>
        Assert.Single(await store.GrantAsync(sweep, [shard], node, LongLease, CancellationToken.None));
}
