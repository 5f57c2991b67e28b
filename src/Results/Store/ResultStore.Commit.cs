using System.Runtime.InteropServices;
using Experiments.Results.Outcomes;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>The fenced transaction: every trial is stored exactly once, whatever is killed, paused or run twice.</summary>
public sealed partial class ResultStore
{
    /// <summary>One transaction: fence the shard row (exactly one row must match sweep, shard, epoch and state), COPY trials, samples,
    /// spans and references, count the outcomes into the shard and the sweep; with a sweep's last shard the sweep is done.</summary>
    /// <exception cref="ArgumentException">The outcomes are not the trials that the shard still lacks. Nothing was stored.</exception>
    public async Task<CommitResult> CommitAsync(ShardCommit commit, CancellationToken cancellation) =>
        await RunAsync((connection, token) => TryCommitAsync(connection, commit, token), cancellation);

    /// <summary>The numbers of the trials of one shard that are stored already.</summary>
    public async Task<IReadOnlySet<long>> StoredTrialsAsync(long sweepId, int shard, CancellationToken cancellation) =>
        new HashSet<long>(await QueryAsync("stored-trials", r => r.GetInt64(0), cancellation, sweepId, shard));

    public async Task<ReferenceRecord?> FindReferenceAsync(Guid instanceKey, CancellationToken cancellation) =>
        (await QueryAsync(
            "find-reference",
            r => new ReferenceRecord(
                instanceKey, Doubles(r.GetFieldValue<byte[]>(4)), Doubles(r.GetFieldValue<byte[]>(5)), r.GetDouble(0), r.GetDouble(1),
                r.GetDouble(2), r.GetDouble(3))
            {
                Rows = Nullable<int>(r, 6),
            },
            cancellation,
            instanceKey)).SingleOrDefault();

    /// <summary>Spans outside a shard's transaction, in batches.</summary>
    public async Task WriteSpansAsync(IReadOnlyList<SpanRecord> spans, CancellationToken cancellation)
    {
        if (spans.Count == 0)
        {
            return;
        }

        await RunAsync(
            async (connection, token) =>
            {
                await CopyAsync(connection, SqlText.Named("copy-spans"), spans, WriteSpan, token);
                return 0;
            },
            cancellation);
    }

    private static async Task<CommitResult> TryCommitAsync(
        NpgsqlConnection connection, ShardCommit commit, CancellationToken cancellation)
    {
        (ShardLease lease, ShardRows rows) = (commit.Lease, commit.Rows);
        bool open = false;
        try
        {
            int? storedBefore;
            await using (NpgsqlBatch fence = new(connection))
            {
                fence.BatchCommands.Add(BatchCommand("begin"));
                fence.BatchCommands.Add(BatchCommand(
                    "fence", lease.SweepId, lease.Shard, lease.Epoch, rows.Done, rows.Failed, rows.Skipped, rows.NodeId,
                    commit.SeenBefore ?? -1));
                open = true;
                storedBefore = (int?)await fence.ExecuteScalarAsync(cancellation);
            }

            if (storedBefore is null)
            {
                return await RefusalAsync(connection, commit, cancellation);
            }

            if (storedBefore > 0)
            {
                await RefuseStoredAsync(connection, commit, cancellation);
            }

            await WriteAsync(connection, commit, cancellation);
            await using NpgsqlBatch last = new(connection);
            last.BatchCommands.Add(BatchCommand("count-commit", lease.SweepId, (long)rows.Done, (long)rows.Failed, (long)rows.Skipped));
            if (commit.Kills)
            {
                last.BatchCommands.Add(BatchCommand("isolate-sweep", lease.SweepId));
            }

            last.BatchCommands.Add(BatchCommand("commit"));
            await last.ExecuteNonQueryAsync(cancellation);
            open = false;
            return CommitResult.Stored;
        }
        finally
        {
            // A connection goes back to its pool without a transaction, or not at all.
            if (open && connection.State == System.Data.ConnectionState.Open)
            {
                await RollBackAsync(connection);
            }
        }
    }

    private static async Task WriteAsync(NpgsqlConnection connection, ShardCommit commit, CancellationToken cancellation)
    {
        await SendAsync(connection, TrialColumns.Copy, commit.Rows.TrialBytes, cancellation);
        await SendAsync(connection, SqlText.Named("copy-samples"), commit.Rows.SampleBytes, cancellation);
        await CopyAsync(connection, SqlText.Named("copy-spans"), commit.Spans, WriteSpan, cancellation);
        IReadOnlyList<ReferenceRecord> references = commit.References;
        if (references.Count > 0)
        {
            // In the order of their keys: two shards with the same instances then wait for each other one way only.
            ReferenceRecord[] sorted = [.. references.DistinctBy(r => r.InstanceKey).OrderBy(r => r.InstanceKey)];
            await using NpgsqlCommand insert = Command(
                connection, "insert-references",
                sorted.Select(r => r.InstanceKey).ToArray(), sorted.Select(r => r.Loss).ToArray(),
                sorted.Select(r => r.MaxLogit).ToArray(), sorted.Select(r => r.RmsLogit).ToArray(),
                sorted.Select(r => r.Seconds).ToArray(), sorted.Select(r => Bytes(r.Gradient)).ToArray(),
                sorted.Select(r => Bytes(r.Forward)).ToArray(), sorted.Select(r => r.Rows).ToArray());
            await insert.ExecuteNonQueryAsync(cancellation);
        }
    }

    /// <summary>Why no row matched: ours already, another's, or outcomes that do not fit the shard.</summary>
    private static async Task<CommitResult> RefusalAsync(
        NpgsqlConnection connection, ShardCommit commit, CancellationToken cancellation)
    {
        ShardLease lease = commit.Lease;
        await using NpgsqlCommand look = Command(connection, "fence-refusal", lease.SweepId, lease.Shard);
        await using NpgsqlDataReader row = await look.ExecuteReaderAsync(cancellation);
        if (!await row.ReadAsync(cancellation))
        {
            return CommitResult.Fenced; // The sweep was deleted.
        }

        if (Nullable<int>(row, 2) == lease.Epoch)
        {
            // By us, and the acknowledgement was lost; or by the other of two that had it. Before it was noted which, there was one.
            return (Nullable<int>(row, 5) ?? commit.NodeId) == commit.NodeId ? CommitResult.Stored : CommitResult.Fenced;
        }

        if (row.GetString(0) == "leased" && row.GetInt32(1) == lease.Epoch)
        {
            throw new ArgumentException(
                $"Shard {lease.Shard} of sweep {lease.SweepId} has {row.GetInt32(3)} trials, {row.GetInt32(4)} of them stored, and "
                + $"the commit brings {commit.Rows.Count}. It must bring exactly those that are missing.", nameof(commit));
        }

        return CommitResult.Fenced;
    }

    private static async Task RefuseStoredAsync(
        NpgsqlConnection connection, ShardCommit commit, CancellationToken cancellation)
    {
        await using NpgsqlCommand look = Command(
            connection, "stored-among", commit.Lease.SweepId, commit.Lease.Shard, commit.Rows.Trials);
        if (await look.ExecuteScalarAsync(cancellation) is long trial)
        {
            throw new ArgumentException(
                $"Trial {trial} of sweep {commit.Lease.SweepId} is stored already; a commit brings only those that are missing.", nameof(commit));
        }
    }

    private static async Task RollBackAsync(NpgsqlConnection connection)
    {
        try
        {
            await using NpgsqlCommand rollBack = Command(connection, "rollback");
            await rollBack.ExecuteNonQueryAsync(CancellationToken.None);
        }
        catch (Exception fault) when (fault is NpgsqlException or IOException or InvalidOperationException)
        {
            // The connection broke under us, which rolls back too; the first fault is the one to report.
            NpgsqlConnection.ClearPool(connection);
        }
    }

    private static byte[] Bytes(double[] values) => BitConverter.IsLittleEndian
        ? MemoryMarshal.AsBytes(values.AsSpan()).ToArray()
        : throw new PlatformNotSupportedException("References are stored little-endian; this processor is not.");

    private static double[] Doubles(byte[] bytes) => MemoryMarshal.Cast<byte, double>(bytes).ToArray();

    private static void WriteSpan(CopyBuffer rows, SpanRecord span)
    {
        rows.StartRow(12);
        rows.Uuid(span.TraceId);
        rows.Long(unchecked((long)span.SpanId));
        rows.Long(span.ParentId == 0 ? null : unchecked((long)span.ParentId));
        rows.Time(span.StartedAt);
        rows.Double(span.DurationSeconds);
        rows.Long(span.SweepId);
        rows.Long(span.Trial);
        rows.Int(span.Shard);
        rows.Text(span.Name);
        rows.Text(span.Kind);
        rows.Text(span.Error);
        rows.Jsonb(span.Attributes);
    }
}
