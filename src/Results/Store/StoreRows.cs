namespace Experiments.Results.Store;

public enum SweepState
{
    Running,
    Done,
    Cancelled,
}

/// <param name="Specification">The frozen spec's JSON.</param>
/// <param name="SpecificationHash">Hash of that JSON.</param>
/// <param name="Source">The file as the user wrote it.</param>
/// <param name="Traceparent">W3C trace context of the command that made it, which shards' traces link to.</param>
public sealed record NewSweep(
    string Name, string? Question, long Seed, string Specification, Guid SpecificationHash, string Source,
    long Instances, long Trials, string? Traceparent, string? GitCommit)
{
    /// <summary>From -100 to 100: larger goes first where a silo attends several.</summary>
    public int Priority { get; init; }

    /// <summary>What is stored with it, for silos that do not see these files.</summary>
    public IReadOnlyList<Sweeps.CarriedFile> Files { get; init; } = [];
}

/// <summary>A file that sweeps in the store carry.</summary>
/// <param name="Sha256">64 lower-case hexadecimal digits.</param>
public sealed record StoredFile(string Sha256, long Bytes)
{
    /// <summary>What specifications call it: the first 128 bits of the hash.</summary>
    public Guid Content => Guid.ParseExact(Sha256.AsSpan(0, Sweeps.CarriedFile.NameDigits), "N");

    /// <summary>How many pieces it is stored in.</summary>
    public int Pieces => checked((int)((Bytes + ResultStore.FilePieceBytes - 1) / ResultStore.FilePieceBytes));
}

public sealed record SweepRow(
    long Id, string Name, string? Question, long Seed, SweepState State, string Specification, string Source,
    long Instances, long Trials, int Shards, DateTimeOffset CreatedAt, DateTimeOffset? FinishedAt, string? Traceparent)
{
    /// <summary>The specifications before it was extended, oldest first.</summary>
    public IReadOnlyList<string> Former { get; init; } = [];

    public Guid SpecificationHash { get; init; }

    /// <summary>As of <see cref="NewSweep"/>, when the row was read; it may be changed while the sweep runs.</summary>
    public int Priority { get; init; }
}

/// <summary>What an extension puts in the place of a sweep's specification, and adds.</summary>
/// <param name="From">Hash of the specification that it extends.</param>
/// <param name="Instances">Of the extended sweep, all together.</param>
/// <param name="Shards">Numbered on from the sweep's, as their trials are.</param>
public sealed record ExtendedSweep(
    Guid From, string Specification, Guid SpecificationHash, string Source, long Instances, IReadOnlyList<Sweeps.ShardPlan> Shards)
{
    /// <summary>As of <see cref="NewSweep"/>; those that the sweep carries already cost nothing.</summary>
    public IReadOnlyList<Sweeps.CarriedFile> Files { get; init; } = [];
}

public enum ShardState
{
    Ready,
    Leased,
    Done,
}

public sealed record ShardRow(
    int Number, ShardState State, int Epoch, int? NodeId, long FirstInstance, long EndInstance, long FirstTrial,
    int Trials, int StoredTrials, double PredictedSeconds, bool HolderAlive)
{
    /// <summary>What a silo needs for it, where it was found too large for one; null where it was not.</summary>
    public double? NeedsFreeBytes { get; init; }

    public int? NeedsCores { get; init; }
}

/// <param name="Facts">JSON: cpu, cores, memory, vector width, runtime, os, build, git commit, package versions.</param>
public sealed record NodeRow(string Name, string Host, int ProcessId, string Facts);

public sealed record SweepProgress(
    SweepState State, long Trials, long Done, long Failed, long Skipped, int Shards, int ShardsDone, int ShardsLeased)
{
    public int Priority { get; init; }
}

/// <summary>A line of a listing.</summary>
public sealed record SweepListing(
    long Id, string Name, SweepState State, long Trials, long Done, long Failed, long Skipped, int Shards, int ShardsDone,
    int ShardsLeased, DateTimeOffset CreatedAt, DateTimeOffset? FinishedAt)
{
    public int Priority { get; init; }

    /// <summary>Trials whose row is stored, whatever became of them.</summary>
    public long Stored => Done + Failed + Skipped;
}

/// <summary>What else is known of a sweep.</summary>
/// <param name="TraceId">Of the command that made it, 32 hexadecimal digits.</param>
public sealed record SweepFacts(
    SweepListing Sweep, string? Question, long Seed, long Instances, Guid SpecificationHash, string? GitCommit, string? TraceId)
{
    /// <summary>Whether it ended within the last minute, by the server's clock: what it came to may be being worked out.</summary>
    public bool EndedJustNow { get; init; }
}

/// <summary>One kernel configuration, as trials are grouped by it.</summary>
/// <param name="Parameters">JSON of the settings that have no column, or null.</param>
public sealed record KernelConfiguration(
    string Kernel, string Precision, int Threads, string? Basis, string? Form, int? Degree, bool? Centred, double? Radius, string? Parameters);

/// <summary>A geometric mean of paired ratios with Student's 95 % interval of their logarithms; no ends below two pairs.</summary>
/// <param name="Mean">Seconds of what it is compared with over this one's, on the same inputs.</param>
public sealed record PairedSpeedup(double Mean, double? Low, double? High, long Pairs);

public enum SummaryAxis
{
    None,
    Size,
    Bound,
}

/// <summary>What a kernel configuration came to, over a whole sweep, or at one size or bound of it.</summary>
/// <param name="ErrorMedian">Of the gradient, relative; of the trials that are done.</param>
/// <param name="SecondsMedian">Of one call.</param>
/// <param name="Speedup">Over the exact kernel: same precision, same gradients, same round.</param>
public sealed record SummaryCell(
    SummaryAxis Axis, KernelConfiguration Configuration, int? N, int? D, double? Bound, long Trials, long Done, long Failed, long Skipped,
    long? Rank, double? ErrorMedian, double? ErrorMax, double? SecondsMedian, PairedSpeedup? Speedup)
{
    /// <summary>How many of the trials that are done have errors estimated from a sample of rows.</summary>
    public long Estimated { get; init; }

    /// <summary>Median standard error of those estimates, relative as they are.</summary>
    public double? ErrorStandardError { get; init; }

    /// <summary>The least degree that a polynomial had and the greatest: with <c>degree: auto</c>, chosen for each instance. Null of other kernels.</summary>
    public int? FittedDegreeMin { get; init; }

    public int? FittedDegreeMax { get; init; }

    /// <summary>The largest relative error of an exponential that the kernel itself expected. Null of kernels that expect none.</summary>
    public double? PredictedErrorMax { get; init; }

    /// <summary>Over the same kernel with the fewest threads that the sweep has; null of those themselves, and where all have as many.</summary>
    public PairedSpeedup? ThreadSpeedup { get; init; }
}

/// <summary>Trials that failed or were skipped for one reason; reasons that differ only in their numbers are one.</summary>
/// <param name="ExampleTrial">The lowest number among them, to look at.</param>
public sealed record FailureGroup(string Status, string Kernel, long Trials, long ExampleTrial, string? ExampleReason);

/// <summary>Everything that is shown of a sweep.</summary>
public sealed record SweepSummary(
    SweepFacts Facts, IReadOnlyList<NodeShare> Nodes, IReadOnlyList<SummaryCell> Configurations, IReadOnlyList<SummaryCell> Sizes,
    IReadOnlyList<SummaryCell> Bounds, IReadOnlyList<FailureGroup> Failures)
{
    /// <summary>Null, or how many of the stored trials the cells were computed of: shards of a sweep that runs, the first few of
    /// every configuration and others chosen by a hash of their numbers. Failures are then those of as many trials' worth of the shards that have any, and speed-ups have no interval. The sweep's counts are exact all the same.</summary>
    public long? Sampled { get; init; }

    /// <summary>Whether the sample is known to hold every kernel, size and bound of which any trial is stored.</summary>
    public bool SampleHasEveryConfiguration { get; init; }

    /// <summary>Who runs it, of a sweep that is to run; null of one that is done or cancelled.</summary>
    public SweepRunners? Runners { get; init; }
}

/// <summary>Who computes a sweep now, as far as the store can know.</summary>
/// <param name="Processes">That hold a lease which has not run out, and are connected.</param>
/// <param name="Shards">Which they hold.</param>
/// <param name="Attending">Silos that are connected and take up every sweep, whatever they hold of this one.</param>
/// <param name="LastAt">When a shard of it was last leased or stored; null where none was yet.</param>
public sealed record SweepRunners(long Processes, long Shards, long Attending, DateTimeOffset? LastAt);

/// <summary>Where a shard lies in its sweep.</summary>
/// <param name="EndInstance">One past the last.</param>
public sealed record ShardPlace(int Number, long FirstInstance, long EndInstance, long FirstTrial)
{
    /// <summary>As of <see cref="Outcomes.ShardLease"/>.</summary>
    public int Part { get; init; }

    public IReadOnlyList<int>? Only { get; init; }
}

public sealed record ShardTrace(int Shard, Guid TraceId);

/// <summary>A process, and how much of a sweep it did.</summary>
public sealed record NodeShare(int Id, NodeRow Node, DateTimeOffset StartedAt, long Shards, long Trials);

/// <summary>A sweep that came from an archive, as it is stored now.</summary>
/// <param name="Archived">Its state when it was archived: one that ran then is cancelled now.</param>
/// <param name="Stored">How many of its trials have an outcome.</param>
public sealed record ImportedSweep(long Id, string Name, SweepState State, SweepState Archived, long Trials, long Stored);

/// <param name="PostgresType">As Postgres names it: bigint, double precision, uuid, ….</param>
public sealed record ResultColumn(string Name, Type Type, string PostgresType);
