using Experiments.Results.Outcomes;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>What people ask of stored sweeps.</summary>
public sealed partial class ResultStore
{
    /// <summary>The number of the sweep that was named: its number, <c>last</c>, or a name, whose newest is meant.</summary>
    public async Task<long?> FindSweepAsync(string given, CancellationToken cancellation) =>
        (await QueryAsync("sweep-by-name", r => (long?)r.GetInt64(0), cancellation, given)).SingleOrDefault();

    /// <summary>Sweeps, newest first.</summary>
    /// <param name="before">The last id of the page before, or null for the first page.</param>
    /// <param name="state">Only those in this state, or null for all.</param>
    public async Task<IReadOnlyList<SweepListing>> ListSweepsAsync(
        long? before, int limit, SweepState? state, CancellationToken cancellation) =>
        await QueryAsync(
            "list-sweeps", Listing, cancellation, before ?? long.MaxValue, limit, state is SweepState wanted ? Word(wanted) : null);

    /// <summary>What stored trials say a kernel does in a second: operations by its own prediction, a thread, by kernel and precision. Of the
    /// costliest shards of the newest sweeps; time-weighted, since it is the long trials that a plan must not be wrong about.</summary>
    public async Task<IReadOnlyDictionary<(string Kernel, string Precision), double>> MeasuredRatesAsync(CancellationToken cancellation) =>
        (await QueryAsync("measured-rates", r => (Kernel: r.GetString(0), Precision: r.GetString(1), Rate: r.GetDouble(2)), cancellation))
        .ToDictionary(r => (r.Kernel, r.Precision), r => r.Rate);

    /// <summary>A sweep's facts, where it ran, and what it came to, by kernel configuration, by size, by bound and by fault; null when
    /// there is no such sweep. A finished sweep's is kept (see <see cref="KeepSummaryAsync"/>), else it is computed.</summary>
    /// <param name="most">Of a sweep that runs, or has just ended and is being summed up, shards of about so many stored trials are read, not all; see
    /// <see cref="SweepSummary.Sampled"/>.</param>
    public async Task<SweepSummary?> SummariseAsync(long sweepId, CancellationToken cancellation, long most = long.MaxValue)
    {
        SweepFacts? facts = (await QueryAsync(
            "show-sweep",
            r => new SweepFacts(
                Listing(r), NullableText(r, 13), r.GetInt64(14), r.GetInt64(15), r.GetGuid(16), NullableText(r, 17), NullableText(r, 18))
            {
                EndedJustNow = r.GetBoolean(19),
            },
            cancellation,
            sweepId)).SingleOrDefault();
        if (facts is null)
        {
            return null;
        }

        // Before what takes time: a sweep may be done meanwhile, and nobody runs it any more.
        SweepRunners? runners = facts.Sweep.State != SweepState.Running ? null : (await QueryAsync(
            "who-runs",
            r => new SweepRunners(r.GetInt64(0), r.GetInt64(1), r.GetInt64(2), Nullable<DateTimeOffset>(r, 3)),
            cancellation,
            sweepId)).SingleOrDefault();
        IReadOnlyList<NodeShare> nodes = await NodesAsync(sweepId, cancellation);
        SweepListing counts = facts.Sweep;
        List<SummaryCell> cells = [];
        bool kept = false;
        if (counts.State == SweepState.Done)
        {
            cells = await QueryAsync("summary-kept", Cell, cancellation, sweepId);
            kept = cells.Count > 0;
        }

        int[]? shards = null;
        long? sampled = null;
        bool nothingMissing = false;
        if (counts.Stored > most && (counts.State == SweepState.Running || (counts.State == SweepState.Done && !kept && facts.EndedJustNow)))
        {
            (shards, sampled, nothingMissing) = await SampleAsync(sweepId, most, failing: false, cancellation);
        }

        if (!kept && counts.Stored > 0)
        {
            cells = await QueryAsync("summary", Cell, cancellation, sweepId, shards);
            if (sampled is not null)
            {
                // Trials of one shard are of one minute: how far shards lie apart, an interval over trials does not tell.
                cells = [.. cells.Select(c => c with { Speedup = WithoutEnds(c.Speedup), ThreadSpeedup = WithoutEnds(c.ThreadSpeedup) })];
            }
        }

        int[]? failing = sampled is null ? null : (await SampleAsync(sweepId, most, failing: true, cancellation)).Shards;

        IReadOnlyList<FailureGroup> failures = counts.Failed + counts.Skipped == 0 ? [] : await QueryAsync(
            kept ? "failures-kept" : "failures",
            r => new FailureGroup(r.GetString(0), r.GetString(1), r.GetInt64(2), r.GetInt64(3), NullableText(r, 4)),
            cancellation,
            kept ? [sweepId] : [sweepId, failing]);
        return new SweepSummary(
            facts, nodes,
            [.. cells.Where(c => c.Axis == SummaryAxis.None)],
            [.. cells.Where(c => c.Axis == SummaryAxis.Size && c.Done > 0)],
            [.. cells.Where(c => c.Axis == SummaryAxis.Bound && c.Bound is not null && c.Done + c.Failed > 0)],
            failures)
        {
            Sampled = sampled,
            SampleHasEveryConfiguration = nothingMissing,
            Runners = runners,
        };
    }

    private async Task<(int[] Shards, long Trials, bool NothingMissing)> SampleAsync(
        long sweepId, long most, bool failing, CancellationToken cancellation)
    {
        List<(int Number, int Stored, bool NothingMissing)> shards = await QueryAsync(
            "sampled-shards", r => (r.GetInt32(0), r.GetInt32(1), r.GetBoolean(2)), cancellation, sweepId, most, failing);
        return ([.. shards.Select(s => s.Number)], shards.Sum(s => (long)s.Stored), shards.Count > 0 && shards[0].NothingMissing);
    }

    /// <summary>Keeps what a finished sweep came to, so that it is not computed again each time it is shown. Does nothing for a sweep
    /// that is not done, or whose summary is kept or being computed by another. A retry needs no more than to change when the sweep finished.</summary>
    public Task KeepSummaryAsync(long sweepId, CancellationToken cancellation) => RunAsync(
        async (connection, token) =>
        {
            await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(token);
            await using NpgsqlCommand hold = Command(connection, "keep-summary-lock", sweepId);
            if (await hold.ExecuteScalarAsync(token) is null)
            {
                return false;
            }

            foreach (string statement in (string[])["keep-summary-clear", "keep-summary-clear-failures", "keep-summary", "keep-failures"])
            {
                await using NpgsqlCommand command = Command(connection, statement, sweepId);
                command.CommandTimeout = 0;
                await command.ExecuteNonQueryAsync(token);
            }

            await transaction.CommitAsync(token);
            return true;
        },
        cancellation);

    /// <summary>One trial's row of the view <c>trials</c>, column by column; null when it is not stored.</summary>
    public async Task<IReadOnlyList<(string Column, object? Value)>?> FindTrialAsync(
        long sweepId, long trial, CancellationToken cancellation) =>
        (await QueryAsync(
            "find-trial",
            r => Enumerable.Range(0, r.FieldCount)
                .Select(i => (r.GetName(i), r.IsDBNull(i) ? null : (object?)r.GetValue(i))).ToList(),
            cancellation,
            sweepId, trial)).FirstOrDefault();

    /// <summary>The shard that holds a trial of this number, stored or not; null when there is none.</summary>
    public async Task<ShardPlace?> FindShardOfTrialAsync(long sweepId, long trial, CancellationToken cancellation) =>
        (await QueryAsync(
            "shard-of-trial", r => new ShardPlace(r.GetInt32(0), r.GetInt64(1), r.GetInt64(2), r.GetInt64(3))
            {
                Part = r.GetInt32(4),
                Only = r.IsDBNull(5) ? null : r.GetFieldValue<int[]>(5),
            },
            cancellation, sweepId, trial))
        .SingleOrDefault();

    /// <summary>A process that ran shards; null when there is none of this number.</summary>
    public async Task<NodeRow?> FindNodeAsync(int id, CancellationToken cancellation) =>
        (await QueryAsync(
            "find-node", r => new NodeRow(r.GetString(0), r.GetString(1), r.GetInt32(2), r.GetString(3)), cancellation, id)).SingleOrDefault();

    /// <summary>The trace of one shard, or of the one that took longest; null when none is stored.</summary>
    public async Task<ShardTrace?> FindTraceAsync(long sweepId, int? shard, CancellationToken cancellation) =>
        (await QueryAsync(
            "longest-shard", r => new ShardTrace(r.GetInt32(1), r.GetGuid(0)), cancellation, sweepId, shard ?? -1)).FirstOrDefault();

    /// <summary>Every span of a trace, by start.</summary>
    public async Task<IReadOnlyList<SpanRecord>> SpansAsync(Guid traceId, CancellationToken cancellation) =>
        await QueryAsync(
            "spans-of-trace",
            r => new SpanRecord(
                r.GetGuid(0), unchecked((ulong)r.GetInt64(1)), unchecked((ulong)(Nullable<long>(r, 2) ?? 0)), r.GetString(3), r.GetString(4),
                Time(r, 5), r.GetDouble(6), NullableText(r, 7), Nullable<long>(r, 8), Nullable<int>(r, 9), Nullable<long>(r, 10),
                NullableText(r, 11)),
            cancellation,
            traceId);

    /// <summary>The processes that ran shards of a sweep, what they ran on, and how much each did; the busiest first.</summary>
    public async Task<IReadOnlyList<NodeShare>> NodesAsync(long sweepId, CancellationToken cancellation) =>
        await QueryAsync(
            "nodes-of-sweep",
            r => new NodeShare(
                r.GetInt32(0), new NodeRow(r.GetString(1), r.GetString(2), r.GetInt32(3), r.GetString(4)), Time(r, 5), r.GetInt64(6), r.GetInt64(7)),
            cancellation,
            sweepId);

    /// <summary>How many of these instances have a stored reference.</summary>
    public async Task<long> CountReferencesAsync(IReadOnlyCollection<Guid> instances, CancellationToken cancellation) =>
        (await QueryAsync("known-references", r => r.GetInt64(0), cancellation, instances.ToArray()))[0];

    /// <summary>The rows of the view <c>trials</c> of one sweep, in order, as a stream: its columns are known before its first row.</summary>
    public Task<ResultRows> ExportTrialsAsync(long sweepId, CancellationToken cancellation) => StoreFaults.RunAsync(
        _address,
        async token => await ResultRows.OpenAsync(await _source.OpenConnectionAsync(token), SqlText.Named("export-trials"), [sweepId], token),
        cancellation);

    private static SweepListing Listing(NpgsqlDataReader r) => new(
        r.GetInt64(0), r.GetString(1), SweepStateOf(r.GetString(2)), r.GetInt64(3), r.GetInt64(4), r.GetInt64(5), r.GetInt64(6),
        r.GetInt32(7), r.GetInt32(8), r.GetInt32(9), Time(r, 10), Nullable<DateTimeOffset>(r, 11))
    {
        Priority = r.GetInt32(12),
    };

    private static PairedSpeedup? WithoutEnds(PairedSpeedup? ratio) => ratio is null ? null : ratio with { Low = null, High = null };

    private static SummaryCell Cell(NpgsqlDataReader r) => new(
        r.GetString(0) switch { "size" => SummaryAxis.Size, "bound" => SummaryAxis.Bound, _ => SummaryAxis.None },
        new KernelConfiguration(
            r.GetString(1), r.GetString(2), r.GetInt32(3), NullableText(r, 4), NullableText(r, 5), Nullable<int>(r, 6),
            Nullable<bool>(r, 7), Nullable<double>(r, 8), NullableText(r, 9)),
        Nullable<int>(r, 10), Nullable<int>(r, 11), Nullable<double>(r, 12), r.GetInt64(13), r.GetInt64(14), r.GetInt64(15), r.GetInt64(16),
        Nullable<long>(r, 17), Nullable<double>(r, 18), Nullable<double>(r, 19), Nullable<double>(r, 20),
        Ratio(r, 21))
    {
        Estimated = r.GetInt64(25),
        ErrorStandardError = Nullable<double>(r, 26),
        FittedDegreeMin = Nullable<int>(r, 27),
        FittedDegreeMax = Nullable<int>(r, 28),
        PredictedErrorMax = Nullable<double>(r, 29),
        ThreadSpeedup = Ratio(r, 30),
    };

    // Four columns: pairs, mean, low, high.
    private static PairedSpeedup? Ratio(NpgsqlDataReader r, int column) => Nullable<double>(r, column + 1) is double mean
        ? new PairedSpeedup(mean, Nullable<double>(r, column + 2), Nullable<double>(r, column + 3), r.GetInt64(column)) : null;
}
