using System.Data;
using System.Globalization;
using Experiments.Results.Archives;
using Experiments.Results.Sweeps;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>Sweeps that move from one store to another, with everything that is stored of them.</summary>
public sealed partial class ResultStore
{
    private const int CopyBytes = 1 << 17;

    /// <summary>The same with the files that the sweep carries, which this store's login must be allowed to read.</summary>
    public Task<ArchiveManifest?> ExportArchiveAsync(long sweepId, Stream file, string build, CancellationToken cancellation) =>
        ExportArchiveAsync(sweepId, file, build, () => Task.FromResult<ResultStore?>(this), cancellation);

    /// <summary>Writes everything the store has of a sweep, as it is at one moment, whoever goes on storing; null when there is no such
    /// sweep. For all but the files that it carries the reader's rights are enough. It is tried once: a full disk under the file must not
    /// pass for a store that went away.</summary>
    /// <param name="file">Empty; it is written from its start to its end.</param>
    /// <param name="build">Of the program that writes.</param>
    /// <param name="filesFrom">The store as one who may read the files sees it, asked for when the sweep carries some; null leaves them out.</param>
    /// <exception cref="IOException">The file could not be written.</exception>
    /// <exception cref="InvalidDataException">A file is not what the store says.</exception>
    public async Task<ArchiveManifest?> ExportArchiveAsync(
        long sweepId, Stream file, string build, Func<Task<ResultStore?>> filesFrom, CancellationToken cancellation)
    {
        await using NpgsqlConnection connection = await StoreFaults.RunAsync(
            _address, async token => await _source.OpenConnectionAsync(token), cancellation);
        try
        {
            await using NpgsqlTransaction snapshot = await connection.BeginTransactionAsync(IsolationLevel.RepeatableRead, cancellation);
            await using (NpgsqlCommand settings = Command(connection, "archive-settings"))
            {
                await settings.ExecuteNonQueryAsync(cancellation);
            }

            if (await SubjectAsync(connection, sweepId, build, cancellation) is not ArchiveManifest subject)
            {
                return null;
            }

            using ArchiveWriter archive = new(file);
            foreach (ArchivePart part in ArchivePart.All)
            {
                await ExportAsync(connection, archive, part, sweepId, cancellation);
            }

            List<StoredFile> files;
            await using (NpgsqlCommand carried = Command(connection, "files-of-sweep", sweepId))
            {
                files = await ReadAllAsync(carried, FileOf, cancellation);
            }

            if (files.Count > 0 && await filesFrom() is ResultStore from)
            {
                foreach (StoredFile one in files)
                {
                    await archive.WriteAsync(one, to => from.CopyFileAsync(one, to, cancellation));
                }
            }
            else
            {
                files = [];
            }

            return await archive.FinishAsync(parts => subject with { Parts = parts, Files = files }, cancellation);
        }
        catch (NpgsqlException fault)
        {
            throw StoreFaults.Explain(fault, _address);
        }
    }

    /// <summary>Stores an archive's sweep under a new number, in one transaction, as the writer. A sweep that ran when it was
    /// archived is cancelled here, since silos take up whatever runs; its leases are void.</summary>
    /// <param name="again">Also where the sweep is there already, as another one.</param>
    /// <exception cref="InvalidDataException">The archive's rows are not a sweep's, or the sweep is there already; nothing was stored.</exception>
    public async Task<ImportedSweep> ImportArchiveAsync(SweepArchive archive, bool again, CancellationToken cancellation)
    {
        // Drawn once, so that an import whose answer was lost finds itself.
        Guid submission = again ? Guid.NewGuid() : archive.Manifest.Submission;
        bool tried = false;
        try
        {
            return await RunAsync(
                async (connection, token) =>
                {
                    await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(token);
                    if (await FindSubmissionAsync(connection, submission, token) is long there)
                    {
                        return tried ? await SettledAsync(connection, archive, there, token) : throw new InvalidDataException(
                            $"Sweep {there}, '{archive.Manifest.Name}', is the archive's sweep (submission {submission}). Nothing was imported; "
                            + "--again imports it beside that one.");
                    }

                    tried = true;
                    long id = await ImportRowsAsync(connection, archive, submission, token);
                    ImportedSweep imported = await SettledAsync(connection, archive, id, token);
                    await transaction.CommitAsync(token);
                    return imported;
                },
                cancellation);
        }
        catch (ArchiveFault fault)
        {
            throw archive.Refuse(fault);
        }
    }

    private static async Task<ArchiveManifest?> SubjectAsync(
        NpgsqlConnection connection, long sweepId, string build, CancellationToken cancellation)
    {
        await using NpgsqlCommand look = Command(connection, "archive-subject", sweepId);
        return (await ReadAllAsync(
            look,
            r => new ArchiveManifest(
                SweepArchive.Schema, build, sweepId, r.GetString(0), r.GetGuid(1), r.GetString(2), r.GetInt64(3), r.GetInt64(4), Time(r, 5), []),
            cancellation)).SingleOrDefault();
    }

    private static async Task ExportAsync(
        NpgsqlConnection connection, ArchiveWriter archive, ArchivePart part, long sweepId, CancellationToken cancellation)
    {
        List<(string Name, string Quoted)> columns = await ColumnsAsync(connection, part, cancellation);
        string statement = SqlText.Named(part.Statement)
            .Replace("{sweep}", sweepId.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal)
            .Replace("{table}", part.Table, StringComparison.Ordinal)
            .Replace("{columns}", string.Join(", ", columns.Select(c => c.Quoted)), StringComparison.Ordinal);

        // A node's number is an identity, which the statement adds.
        IEnumerable<string> names = columns.Select(c => c.Name);
        await archive.WriteAsync(part, [.. part == ArchivePart.Node ? names.Prepend("id") : names], part == ArchivePart.Reference
            ? to => ExportReferencesAsync(connection, statement, sweepId, to, cancellation)
            : to => CopyOutAsync(connection, statement, to, cancellation));
    }

    /// <summary>The references of the instances whose trials are stored: by the instance's key, or by that and how many rows were drawn.</summary>
    private static async Task ExportReferencesAsync(
        NpgsqlConnection connection, string statement, long sweepId, Stream to, CancellationToken cancellation)
    {
        await using (NpgsqlCommand declare = new(SqlText.Named("archive-instances")
            .Replace("{sweep}", sweepId.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal), connection) { CommandTimeout = 0 })
        {
            await declare.ExecuteNonQueryAsync(cancellation);
        }

        while (true)
        {
            await using NpgsqlCommand next = Command(connection, "archive-instances-next");
            next.CommandTimeout = 0;
            List<Guid> keys = await ReadAllAsync(
                next,
                r => Nullable<int>(r, 1) is int rows ? Identity.KeyOfReference(r.GetGuid(0), rows) : r.GetGuid(0),
                cancellation);
            if (keys.Count == 0)
            {
                return;
            }

            await CopyOutAsync(
                connection, statement.Replace("{keys}", string.Join(',', keys.Select(k => k.ToString("D"))), StringComparison.Ordinal), to, cancellation);
        }
    }

    private async Task CopyFileAsync(StoredFile file, Stream to, CancellationToken cancellation)
    {
        for (int number = 0; number < file.Pieces; number++)
        {
            await to.WriteAsync(
                await FindFilePieceAsync(file.Content, number, cancellation)
                    ?? throw new InvalidDataException("The sweep was deleted, or lost a file that it carries, while it was archived."),
                cancellation);
        }
    }

    private static async Task CopyOutAsync(NpgsqlConnection connection, string statement, Stream to, CancellationToken cancellation)
    {
        using StreamReader rows = (StreamReader)await connection.BeginTextExportAsync(statement, cancellation);

        // A server that sorts, or waits for its disk, is not one that went away.
        rows.BaseStream.ReadTimeout = 0;
        await rows.BaseStream.CopyToAsync(to, CopyBytes, cancellation);
    }

    /// <summary>A table's columns that can be written, those that lead an archive's rows first.</summary>
    private static async Task<List<(string Name, string Quoted)>> ColumnsAsync(
        NpgsqlConnection connection, ArchivePart part, CancellationToken cancellation)
    {
        await using NpgsqlCommand look = Command(connection, "archive-columns", part.Table);
        List<(string Name, string Quoted)> columns = await ReadAllAsync(look, r => (r.GetString(0), r.GetString(1)), cancellation);
        string[] leads = [.. part.Leads.Select(l => l.Column)];
        return [.. leads.Select(lead => columns.Single(c => c.Name == lead)), .. columns.Where(c => !leads.Contains(c.Name))];
    }

    private static async Task<long?> FindSubmissionAsync(NpgsqlConnection connection, Guid submission, CancellationToken cancellation)
    {
        await using NpgsqlCommand find = Command(connection, "find-submission", submission);
        return (long?)await find.ExecuteScalarAsync(cancellation);
    }

    private static async Task<long> ImportRowsAsync(
        NpgsqlConnection connection, SweepArchive archive, Guid submission, CancellationToken cancellation)
    {
        LeadMap map = new(archive.Manifest.SweepId, 0, new Dictionary<long, int>(), submission, new HashSet<Guid>());
        foreach (ArchivePart part in ArchivePart.All)
        {
            try
            {
                if (part == ArchivePart.Node)
                {
                    map = map with { Nodes = await ImportNodesAsync(connection, archive, cancellation) };
                    continue;
                }

                if (part == ArchivePart.Reference)
                {
                    map = map with { Known = await KnownReferencesAsync(connection, archive, cancellation) };
                }

                await ImportPartAsync(connection, archive, part, map, cancellation);
                if (part == ArchivePart.Sweep)
                {
                    map = map with { To = await FindSubmissionAsync(connection, submission, cancellation) ?? throw new ArchiveFault("holds no sweep") };
                }
            }
            catch (PostgresException refused) when (refused.SqlState is { } state
                && (state.StartsWith("22", StringComparison.Ordinal) || state.StartsWith("23", StringComparison.Ordinal)))
            {
                // Values that are none, or that the schema's own rules forbid.
                throw new ArchiveFault($"holds rows of {part.Table} that the store refuses: {refused.MessageText}", refused);
            }
        }

        foreach (StoredFile file in archive.Manifest.Files.OrderBy(f => f.Sha256, StringComparer.Ordinal))
        {
            await CarryAsync(
                connection, map.To, file, () => archive.Open(file),
                fault => new ArchiveFault($"is damaged: {SweepArchive.NameOf(file)} is not what its manifest names", fault), cancellation);
        }

        return map.To;
    }

    private static async Task ImportPartAsync(
        NpgsqlConnection connection, SweepArchive archive, ArchivePart part, LeadMap map, CancellationToken cancellation)
    {
        IReadOnlyList<string> told = archive.Told(part).Columns;
        List<(string Name, string Quoted)> columns = await ColumnsAsync(connection, part, cancellation);
        CheckColumns(part, told, columns.Select(c => c.Name), part.Leads.Select(l => l.Column));
        string statement = SqlText.Named("import-rows").Replace("{table}", part.Table, StringComparison.Ordinal)
            .Replace("{columns}", string.Join(", ", told.Select(t => columns.Single(c => c.Name == t).Quoted)), StringComparison.Ordinal);
        await using ArchivePartReader rows = archive.Open(part);
        NpgsqlCopyTextWriter copy = (NpgsqlCopyTextWriter)await connection.BeginTextImportAsync(statement, cancellation);
        copy.BaseStream.WriteTimeout = copy.BaseStream.ReadTimeout = 0;
        try
        {
            await ArchivedRows.CopyAsync(rows, copy.BaseStream, [.. part.Leads.Select(l => l.Lead)], map, cancellation);
        }
        catch
        {
            // The transaction goes with it; a COPY that was only closed would be taken for a whole one.
            await copy.CancelAsync();
            throw;
        }

        await copy.DisposeAsync();
    }

    // The names come from a file, and go into a statement only when they are the table's own.
    private static void CheckColumns(ArchivePart part, IReadOnlyList<string> told, IEnumerable<string> stored, IEnumerable<string> leads)
    {
        if (told.Except(stored, StringComparer.Ordinal).FirstOrDefault() is string unknown)
        {
            throw new ArchiveFault($"has a column {part.Table}.{unknown}, which this store's schema does not have");
        }

        if (told.Distinct(StringComparer.Ordinal).Count() != told.Count
            || !told.Take(part.Leads.Length).SequenceEqual(leads, StringComparer.Ordinal))
        {
            throw new ArchiveFault($"has the columns of {part.Table} in an order that is not an archive's");
        }
    }

    private static async Task<IReadOnlyDictionary<long, int>> ImportNodesAsync(
        NpgsqlConnection connection, SweepArchive archive, CancellationToken cancellation)
    {
        string[] needed = ["id", "process_id", "started_at", "name", "host", "facts"];
        List<string> told = [.. archive.Told(ArchivePart.Node).Columns];
        int[] places = [.. needed.Select(column => told.IndexOf(column))];
        if (places.Contains(-1))
        {
            throw new ArchiveFault($"has nodes without {string.Join(", ", needed.Where(c => !told.Contains(c)))}");
        }

        Dictionary<long, int> nodes = [];
        await using ArchivePartReader rows = archive.Open(ArchivePart.Node);
        await foreach (string?[] row in ArchivedRows.ReadAsync(rows, cancellation))
        {
            if (row.Length != told.Count || !long.TryParse(row[places[0]], NumberStyles.None, CultureInfo.InvariantCulture, out long id))
            {
                throw new ArchiveFault("has a node without a number, or with fields that are not its columns'");
            }

            await using NpgsqlCommand insert = Command(connection, "import-node", [.. places.Skip(1).Select(place => (object?)row[place])]);
            nodes[id] = (int)(await insert.ExecuteScalarAsync(cancellation))!;
        }

        return nodes;
    }

    private static async Task<IReadOnlySet<Guid>> KnownReferencesAsync(
        NpgsqlConnection connection, SweepArchive archive, CancellationToken cancellation)
    {
        const int AtOnce = 4096;
        HashSet<Guid> known = [];
        if (archive.Told(ArchivePart.Reference).Rows == 0)
        {
            return known;
        }

        await using (NpgsqlCommand hold = Command(connection, "import-lock-references"))
        {
            hold.CommandTimeout = 0;
            await hold.ExecuteNonQueryAsync(cancellation);
        }

        List<Guid> asked = [];
        await using ArchivePartReader rows = archive.Open(ArchivePart.Reference);
        await foreach (Guid key in ArchivedRows.KeysAsync(rows, cancellation))
        {
            asked.Add(key);
            if (asked.Count == AtOnce)
            {
                await AskAsync();
            }
        }

        await AskAsync();
        return known;

        async Task AskAsync()
        {
            await using NpgsqlCommand look = Command(connection, "import-known-references", asked.ToArray());
            known.UnionWith(await ReadAllAsync(look, r => r.GetGuid(0), cancellation));
            asked.Clear();
        }
    }

    /// <summary>Checks that an imported sweep adds up, and leaves nothing of it running.</summary>
    private static async Task<ImportedSweep> SettledAsync(
        NpgsqlConnection connection, SweepArchive archive, long id, CancellationToken cancellation)
    {
        await using NpgsqlCommand check = Command(connection, "import-check", id);
        check.CommandTimeout = 0;
        if (await check.ExecuteScalarAsync(cancellation) is string fault)
        {
            throw new ArchiveFault($"does not add up: {fault}");
        }

        foreach (string statement in (string[])["import-settle-shards", "import-settle-sweep"])
        {
            await using NpgsqlCommand settle = Command(connection, statement, id);
            settle.CommandTimeout = 0;
            await settle.ExecuteNonQueryAsync(cancellation);
        }

        await using NpgsqlCommand look = Command(connection, "archive-subject", id);
        return (await ReadAllAsync(
            look,
            r => new ImportedSweep(
                id, r.GetString(0), SweepStateOf(r.GetString(2)), SweepStateOf(archive.Manifest.State), r.GetInt64(3), r.GetInt64(4)),
            cancellation)).Single();
    }
}
