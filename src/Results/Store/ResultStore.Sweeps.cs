using Experiments.Results.Sweeps;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>A sweep's life: submitted, found, cancelled, resumed, retried, deleted.</summary>
public sealed partial class ResultStore
{
    private const int PieceBytes = 1 << 17;

    /// <summary>Stores the sweep, its files and its shards in one transaction and returns its id. The shards are written as they are
    /// enumerated; after a lost connection they are enumerated again.</summary>
    /// <exception cref="ArgumentException">The shards' trials do not add up to the sweep's.</exception>
    /// <exception cref="InvalidDataException">A file is no longer what it was; nothing was stored.</exception>
    public Task<long> CreateSweepAsync(NewSweep sweep, IEnumerable<ShardPlan> shards, CancellationToken cancellation)
    {
        // An answer that was lost on the way must not make the same submission twice.
        Guid submission = Guid.NewGuid();
        return RunAsync(
            async (connection, token) =>
            {
                await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(token);
                await using NpgsqlCommand insert = Command(
                    connection, "insert-sweep", submission, sweep.Name, sweep.Question, sweep.Seed, sweep.Specification,
                    sweep.SpecificationHash, sweep.Source, sweep.Instances, sweep.Trials, sweep.Traceparent, sweep.GitCommit,
                    sweep.Priority);
                if (await insert.ExecuteScalarAsync(token) is not long id)
                {
                    await using NpgsqlCommand find = Command(connection, "find-submission", submission);
                    return (long)(await find.ExecuteScalarAsync(token))!;
                }

                await CarryAsync(connection, id, sweep.Files, token);
                int count = await CopyShardsAsync(connection, id, sweep, shards, token);
                await using NpgsqlCommand finish = Command(connection, "finish-submission", id, count);
                await finish.ExecuteNonQueryAsync(token);
                await transaction.CommitAsync(token);
                return id;
            },
            cancellation);
    }

    public async Task<SweepRow?> FindSweepAsync(long id, CancellationToken cancellation) =>
        (await QueryAsync(
            "find-sweep",
            r => new SweepRow(
                r.GetInt64(0), r.GetString(1), NullableText(r, 2), r.GetInt64(3), SweepStateOf(r.GetString(4)), r.GetString(5),
                r.GetString(6), r.GetInt64(7), r.GetInt64(8), r.GetInt32(9), Time(r, 10), Nullable<DateTimeOffset>(r, 11), NullableText(r, 12))
            {
                Former = r.GetFieldValue<string[]>(13),
                SpecificationHash = r.GetGuid(14),
                Priority = r.GetInt32(15),
            },
            cancellation,
            id)).SingleOrDefault();

    /// <summary>Sweeps that silos should be working on, oldest first.</summary>
    public async Task<IReadOnlyList<long>> RunningSweepsAsync(CancellationToken cancellation) =>
        await QueryAsync("running-sweeps", r => r.GetInt64(0), cancellation);

    /// <summary>Moves the sweep to a state if it is in one of those from which that is allowed; false if it was not.</summary>
    /// <remarks>Running to cancelled: nothing is leased or renewed any more, but a commit that is under way is stored. Cancelled to
    /// running: leases of before are void, so what still computes under one is fenced; a sweep with nothing left is done at
    /// once. Running to done happens by itself with the last commit.</remarks>
    public Task<bool> SetSweepStateAsync(long sweepId, SweepState to, CancellationToken cancellation) => RunAsync(
        async (connection, token) =>
        {
            if (to is SweepState.Cancelled or SweepState.Done)
            {
                await using NpgsqlCommand move = Command(
                    connection, to == SweepState.Done ? "finish-sweep" : "cancel-sweep", sweepId);
                return await move.ExecuteNonQueryAsync(token) == 1;
            }

            await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(token);
            await using NpgsqlCommand shards = Command(connection, "resume-shards", sweepId);
            await shards.ExecuteNonQueryAsync(token);
            await using NpgsqlCommand resume = Command(connection, "resume-sweep", sweepId);
            bool moved = await resume.ExecuteNonQueryAsync(token) == 1;
            await transaction.CommitAsync(token);
            return moved;
        },
        cancellation);

    /// <summary>Changes how urgent a sweep is; silos that attend it are told. False when there is no such sweep.</summary>
    /// <param name="priority">From -100 to 100.</param>
    public Task<bool> SetPriorityAsync(long sweepId, int priority, CancellationToken cancellation) => RunAsync(
        async (connection, token) =>
        {
            await using NpgsqlCommand set = Command(connection, "set-priority", sweepId, priority);
            return await set.ExecuteNonQueryAsync(token) == 1;
        },
        cancellation);

    /// <summary>Puts failed trials back, or skipped ones, or both: their rows move to <c>trial_attempt</c> with their timings,
    /// their shards become ready, and a sweep that was done runs again. One transaction. Shards that are leased now are left
    /// alone. Returns how many trials.</summary>
    public Task<long> RetryAsync(long sweepId, bool failed, bool skipped, CancellationToken cancellation) => RunAsync(
        async (connection, token) =>
        {
            await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(token);
            List<int> shards;
            await using (NpgsqlCommand hold = Command(connection, "retry-lock", sweepId, failed, skipped))
            {
                shards = await ReadAllAsync(hold, r => r.GetInt32(0), token);
            }

            await using NpgsqlCommand move = Command(connection, "retry-move", sweepId, shards.ToArray(), failed, skipped);
            long moved = (long)(await move.ExecuteScalarAsync(token))!;
            await transaction.CommitAsync(token);
            return moved;
        },
        cancellation);

    /// <summary>Puts a longer specification in the place of a sweep's and adds its shards, and the sweep runs; in one transaction. What is
    /// stored stays under its numbers. False when the sweep is not there, or has another specification than the one extended.</summary>
    /// <remarks>A sweep may run meanwhile: its row is locked as a commit locks it, so that the last commit comes before and the sweep runs again, or
    /// after and it is not the last. Of a cancelled one the leases are void, as when it is resumed.</remarks>
    public Task<bool> ExtendSweepAsync(long sweepId, ExtendedSweep extension, CancellationToken cancellation) => RunAsync(
        async (connection, token) =>
        {
            await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(token);
            (Guid Hash, long Trials, int Shards)? now;
            await using (NpgsqlCommand hold = Command(connection, "extend-lock", sweepId))
            {
                now = (await ReadAllAsync(hold, r => ((Guid, long, int)?)(r.GetGuid(0), r.GetInt64(1), r.GetInt32(2)), token)).SingleOrDefault();
            }

            // Its answer was lost, and it is there.
            if (now?.Hash == extension.SpecificationHash)
            {
                return true;
            }

            if (now?.Hash != extension.From || extension.Shards is not [ShardPlan first, ..]
                || first.Number != now.Value.Shards || first.FirstTrial != now.Value.Trials)
            {
                return false;
            }

            await using NpgsqlCommand free = Command(connection, "resume-shards", sweepId);
            await free.ExecuteNonQueryAsync(token);
            IReadOnlyList<ShardPlan> shards = extension.Shards;
            await using NpgsqlCommand extend = Command(
                connection, "extend-sweep", sweepId, extension.Specification, extension.SpecificationHash, extension.Source, extension.Instances,
                shards.Sum(s => (long)s.Trials), shards.Count);
            await extend.ExecuteNonQueryAsync(token);
            await using NpgsqlCommand add = Command(
                connection, "extend-shards", sweepId, Column(s => s.Number), Column(s => s.FirstInstance), Column(s => s.EndInstance),
                Column(s => s.FirstTrial), Column(s => s.Trials), Column(s => s.PredictedSeconds),
                Column(s => s.Only is null ? null : $"{{{string.Join(',', s.Only)}}}"));
            await add.ExecuteNonQueryAsync(token);
            await CarryAsync(connection, sweepId, extension.Files, token);
            await transaction.CommitAsync(token);
            return true;

            T[] Column<T>(Func<ShardPlan, T> of) => [.. shards.Select(of)];
        },
        cancellation);

    /// <summary>Deletes a sweep with everything that is stored of it, and the files that no other carries; what still runs of it is fenced. False when there is none.</summary>
    public Task<bool> DeleteSweepAsync(long sweepId, CancellationToken cancellation) => RunAsync(
        async (connection, token) =>
        {
            await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(token);
            await using NpgsqlCommand hold = Command(connection, "delete-sweep-lock", sweepId);
            await hold.ExecuteNonQueryAsync(token);
            await using NpgsqlCommand delete = Command(connection, "delete-sweep", sweepId);
            bool deleted = await delete.ExecuteNonQueryAsync(token) == 1;
            await DeleteUnusedFilesAsync(connection, token);
            await transaction.CommitAsync(token);
            return deleted;
        },
        cancellation);

    public async Task<SweepProgress> ProgressAsync(long sweepId, CancellationToken cancellation) =>
        (await QueryAsync(
            "progress",
            r => new SweepProgress(
                SweepStateOf(r.GetString(0)), r.GetInt64(1), r.GetInt64(2), r.GetInt64(3), r.GetInt64(4), r.GetInt32(5), r.GetInt32(6),
                r.GetInt32(7))
            {
                Priority = r.GetInt32(8),
            },
            cancellation,
            sweepId)).SingleOrDefault()
        ?? throw new ArgumentException($"There is no sweep {sweepId}.", nameof(sweepId));

    private static async Task<int> CopyShardsAsync(
        NpgsqlConnection connection, long sweepId, NewSweep sweep, IEnumerable<ShardPlan> shards, CancellationToken cancellation)
    {
        int count = 0;
        long trials = 0;
        await CopyAsync(
            connection, SqlText.Named("copy-shards"), shards,
            (rows, shard) =>
            {
                rows.StartRow(7);
                rows.Long(sweepId);
                rows.Int(shard.Number);
                rows.Long(shard.FirstInstance);
                rows.Long(shard.EndInstance);
                rows.Long(shard.FirstTrial);
                rows.Int(shard.Trials);
                rows.Double(double.IsFinite(shard.PredictedSeconds) ? shard.PredictedSeconds : 0);
                count++;
                trials += shard.Trials;
            },
            cancellation);
        return trials == sweep.Trials ? count : throw new ArgumentException(
            $"The shards of sweep '{sweep.Name}' hold {trials} trials, but the sweep has {sweep.Trials}.", nameof(shards));
    }

    /// <summary>One COPY of rows that are written already, a piece at a time: the server takes a message whole before it begins to store it.</summary>
    private static async Task SendAsync(NpgsqlConnection connection, string statement, ReadOnlyMemory<byte> rows, CancellationToken cancellation)
    {
        if (rows.IsEmpty)
        {
            return;
        }

        await using NpgsqlRawCopyStream stream = await connection.BeginRawBinaryCopyAsync(statement, cancellation);
        for (int at = 0; at < rows.Length; at += PieceBytes)
        {
            await stream.WriteAsync(rows[at..Math.Min(rows.Length, at + PieceBytes)], cancellation);
        }
    }

    /// <summary>One COPY of all items. They are encoded a piece at a time, while the server stores the piece before.</summary>
    private static async Task CopyAsync<T>(
        NpgsqlConnection connection, string statement, IEnumerable<T> items, Action<CopyBuffer, T> write, CancellationToken cancellation)
    {
        if (items.TryGetNonEnumeratedCount(out int count) && count == 0)
        {
            return;
        }

        using CopyBuffer rows = new();
        await using NpgsqlRawCopyStream stream = await connection.BeginRawBinaryCopyAsync(statement, cancellation);
        try
        {
            foreach (T item in items)
            {
                write(rows, item);
                if (rows.Bytes.Length >= PieceBytes)
                {
                    await stream.WriteAsync(rows.Bytes, cancellation);
                    rows.Clear();
                }
            }
        }
        catch (Exception fault) when (fault is not (NpgsqlException or IOException or OperationCanceledException))
        {
            // The items' own fault is the one to tell of; a COPY that was only closed would end with another, of the half of a row.
            await stream.CancelAsync();
            throw;
        }

        rows.End();
        await stream.WriteAsync(rows.Bytes, cancellation);
    }
}
