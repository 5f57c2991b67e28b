using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using Experiments.Results.Archives;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Results.Tests.Store;

public sealed class ArchiveTests : StoreTest
{
    private const string Build = "0.1.0+test";
    private static readonly string[] Tables = ["sweep", "shard", "trial", "trial_attempt", "sample", "span"];

    [Fact]
    public async Task A_sweep_comes_out_of_its_archive_as_it_went_in_but_for_numbers_and_leases()
    {
        long sweep = await EventfulSweepAsync();
        (byte[] bytes, ArchiveManifest manifest) = await ExportAsync(Address, sweep);
        Assert.Equal(("running", 20L, 12L), (manifest.State, manifest.Trials, manifest.Stored));

        StoreAddress elsewhere = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore other = await ResultStore.OpenAsync(elsewhere, Cancellation);

        // Numbers must not agree by luck.
        await Make.SweepAsync(other, 1, 1);
        await Make.NodeAsync(other);
        await Make.NodeAsync(other);
        ImportedSweep imported = await ImportAsync(other, bytes);
        Assert.NotEqual(sweep, imported.Id);
        Assert.Equal((SweepState.Cancelled, SweepState.Running, 12L), (imported.State, imported.Archived, imported.Stored));

        foreach (string table in Tables)
        {
            string[] here = await RowsAsync(Address, table, sweep);
            Assert.NotEmpty(here);
            Assert.Equal(here, await RowsAsync(elsewhere, table, imported.Id));
        }

        Assert.Equal(await NodesAsync(Address, sweep), await NodesAsync(elsewhere, imported.Id));
        const string References = "SELECT string_agg(r::text, '|' ORDER BY r::text) FROM experiments.reference r";
        Assert.Equal(await ScalarAsync(Address, References), await ScalarAsync(elsewhere, References));
        Assert.Equal(0L, await ScalarAsync(elsewhere, $"SELECT count(*) FROM experiments.shard WHERE sweep_id = {imported.Id} AND state = 'leased'"));

        await FinishAsync(other, imported.Id);
        Assert.Equal(
            new SweepProgress(SweepState.Done, 20, 20, 0, 0, 5, 5, 0), await other.ProgressAsync(imported.Id, Cancellation));
    }

    [Fact]
    public async Task No_table_of_a_sweep_is_forgotten()
    {
        // Summaries are computed from the others, and kept again by whoever imports; which files a sweep carries is in the manifest.
        string[] derived = ["summary", "summary_failure", "sweep_file"];
        string tables = (string)(await ScalarAsync("""
            SELECT string_agg(c.table_name, ',' ORDER BY c.table_name)
            FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
            WHERE c.table_schema = 'experiments' AND c.column_name = 'sweep_id' AND t.table_type = 'BASE TABLE'
            """))!;
        Assert.Equal(
            tables.Split(',').Except(derived).Order(),
            ArchivePart.All.Where(p => p.Leads.Any(l => l.Lead == Lead.Sweep)).Select(p => p.Table).Order());
    }

    [Fact]
    public async Task The_readers_rights_are_enough_to_archive_and_a_sweep_that_is_not_there_has_no_archive()
    {
        long sweep = await EventfulSweepAsync();
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        using MemoryStream file = new();
        Assert.NotNull(await reader.ExportArchiveAsync(sweep, file, Build, Cancellation));
        Assert.Null(await reader.ExportArchiveAsync(sweep + 1, Stream.Null, Build, Cancellation));
    }

    [Fact]
    public async Task A_full_disk_under_the_archive_is_not_a_store_that_went_away()
    {
        long sweep = await EventfulSweepAsync();
        await using FileStream full = new("/dev/full", FileMode.Open, FileAccess.Write, FileShare.ReadWrite, 1);
        IOException fault = await Assert.ThrowsAsync<IOException>(() => Store.ExportArchiveAsync(sweep, full, Build, Cancellation));
        Assert.Contains("space", fault.Message, StringComparison.Ordinal);
        Assert.NotNull(await Store.FindSweepAsync(sweep, Cancellation));
    }

    [Fact]
    public async Task A_sweep_that_is_there_is_refused_by_its_number_unless_again()
    {
        long sweep = await EventfulSweepAsync();
        (byte[] bytes, _) = await ExportAsync(Address, sweep);
        long nodes = (long)(await ScalarAsync("SELECT count(*) FROM experiments.node"))!;
        InvalidDataException refused = await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(Store, bytes));
        Assert.Contains($"Sweep {sweep}, 'test', is the archive's sweep", refused.Message, StringComparison.Ordinal);
        Assert.Contains("--again", refused.Message, StringComparison.Ordinal);
        Assert.Equal(1L, await ScalarAsync("SELECT count(*) FROM experiments.sweep"));

        ImportedSweep copy = await ImportAsync(Store, bytes, again: true);
        Assert.Equal(await RowsAsync(Address, "trial", sweep), await RowsAsync(Address, "trial", copy.Id));

        // The same processes, and references that are known: neither is stored twice.
        Assert.Equal(nodes, await ScalarAsync("SELECT count(*) FROM experiments.node"));
        Assert.Equal(2L, await ScalarAsync("SELECT count(*) FROM experiments.reference"));

        // A copy is a sweep of its own: its archive goes where the first one is not.
        (byte[] second, _) = await ExportAsync(Address, copy.Id);
        await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(Store, second));
        Assert.True(await Store.DeleteSweepAsync(copy.Id, Cancellation));
        Assert.Equal("test", (await ImportAsync(Store, second)).Name);
    }

    [Fact]
    public async Task An_archive_of_a_sweep_that_runs_is_of_one_moment()
    {
        const int Shards = 60;
        long sweep = await Make.SweepAsync(Store, Shards, 4);
        int node = await Make.NodeAsync(Store);
        TaskCompletionSource caught = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Task committing = Task.Run(async () =>
        {
            for (int shard = 0; shard < Shards; shard++)
            {
                if (shard == Shards / 2)
                {
                    // Sixty commits may take less than one archive.
                    await caught.Task.WaitAsync(TimeSpan.FromMinutes(1), Cancellation);
                }

                ShardLease lease = await Make.GrantOneAsync(Store, sweep, shard, node);
                Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, node), Cancellation));
            }
        }, Cancellation);
        List<long> stored = [];
        while (!committing.IsCompleted)
        {
            // An import that did not add up would be refused.
            (byte[] bytes, ArchiveManifest manifest) = await ExportAsync(Address, sweep);
            Assert.Equal(manifest.Stored, (await ImportAsync(Store, bytes, again: true)).Stored);
            stored.Add(manifest.Stored);
            if (manifest.Stored > 0)
            {
                caught.TrySetResult();
            }
        }

        await committing;
        Assert.True(stored.Exists(s => s is > 0 and < 4 * Shards), $"No archive fell into the run: {string.Join(' ', stored)}.");
    }

    [Fact]
    public async Task An_archive_with_any_byte_changed_or_cut_short_anywhere_is_refused_or_the_same()
    {
        long sweep = await EventfulSweepAsync();
        (byte[] bytes, ArchiveManifest manifest) = await ExportAsync(Address, sweep);
        int refused = 0;
        for (int at = 0; at < bytes.Length; at += 61)
        {
            byte[] changed = [.. bytes];
            changed[at] ^= 0x55;
            refused += await OpensAsAsync(changed, manifest) ? 0 : 1;
            Assert.False(await OpensAsAsync(bytes[..at], manifest), $"cut to {at} of {bytes.Length} bytes");
        }

        // What may change is a time, or a name's second copy.
        Assert.True(refused > bytes.Length / 61 / 2, $"{refused} of {bytes.Length / 61} changes were refused");
        foreach (byte[] other in (byte[][])[[], [1, 2, 3], Encoding.UTF8.GetBytes("name: tiny\nseed: 7\n"), Zip([("x.txt", [1])])])
        {
            Assert.False(await OpensAsAsync(other, manifest));
        }
    }

    public static TheoryData<string, string, string, string> Forgeries => new()
    {
        { "trial", "^.*\n", "", "does not add up: shard 0 counts 3 done, 1 failed and 0 skipped trials and has rows of 2, 1 and 0" },
        { "trial", "\tdone\tuniform", "\tfailed\tuniform", "does not add up: shard" },
        { "trial", "^[0-9]+\t", "99\t", "has a row of sweep '99'" },
        { "trial", "^([0-9]+)\t[0-9]+", "$1\t77", "has a row of node '77', which it does not describe" },
        { "trial", "\tuniform\t", "\t\\N\t", "holds rows of trial that the store refuses: null value in column \"family\"" },
        { "shard", "\tleased\t", "\trunning\t", "holds rows of shard that the store refuses: new row for relation \"shard\" violates check constraint" },
        { "shard", "^.*\n", "", "does not add up: the sweep has 16 trials in 4 shards" },
        { "sweep", "\trunning\t", "\tdone\t", "does not add up: the sweep says that it is done, with 2 shards to run" },
        { "sweep", ".*\n", "", "holds no sweep" },
        { "sample", "\t[{]", "\t{x", "holds rows of sample that the store refuses: invalid input syntax" },
        { "sample", "\n$", "", "has a row without an end" },
        { "node", "^[0-9]+", "x", "has a node without a number" },
        { "reference", "^[0-9a-f]{8}", "no-key-0", "has a reference under the key" },
    };

    [Theory]
    [MemberData(nameof(Forgeries))]
    public async Task A_forged_archive_whose_hashes_are_right_stores_nothing(string table, string pattern, string replacement, string said)
    {
        long sweep = await EventfulSweepAsync();
        (byte[] bytes, _) = await ExportAsync(Address, sweep);
        byte[] forged = Forge(
            bytes,
            (name, text) => name == table ? new System.Text.RegularExpressions.Regex(pattern).Replace(text, replacement, 1) : text,
            manifest => manifest);
        StoreAddress elsewhere = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore other = await ResultStore.OpenAsync(elsewhere, Cancellation);
        InvalidDataException refused = await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(other, forged));
        Assert.StartsWith("'a.zip' " + said, refused.Message, StringComparison.Ordinal);
        Assert.EndsWith("Nothing was imported.", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
        await EmptyAsync(elsewhere);
    }

    [Fact]
    public async Task A_newer_schema_an_unknown_column_and_a_name_that_is_a_statement_are_refused()
    {
        long sweep = await EventfulSweepAsync();
        (byte[] bytes, ArchiveManifest manifest) = await ExportAsync(Address, sweep);
        StoreAddress elsewhere = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore other = await ResultStore.OpenAsync(elsewhere, Cancellation);
        Assert.Equal(SweepArchive.Schema, manifest.Schema);
        await RefusedAsync(m => m with { Schema = m.Schema + 1 }, $"was taken from a store of schema {manifest.Schema + 1} by build {Build}");
        await RefusedAsync(m => With(m, "trial", c => c == "kernel" ? "colour" : c), "has a column trial.colour, which this store's schema does not have");
        await RefusedAsync(
            m => With(m, "span", c => c == "kind" ? "kind) FROM PROGRAM 'true' --" : c), "has a column span.kind) FROM PROGRAM 'true' --");
        await RefusedAsync(m => With(m, "trial", c => c == "n" ? "d" : c), "has the columns of trial in an order");
        await RefusedAsync(m => m with { Parts = [.. m.Parts.Skip(1)] }, "has a manifest that does not describe sweep.tsv once");
        await EmptyAsync(elsewhere);

        async Task RefusedAsync(Func<ArchiveManifest, ArchiveManifest> change, string said)
        {
            byte[] forged = Forge(bytes, (_, text) => text, change);
            InvalidDataException refused = await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(other, forged));
            Assert.StartsWith("'a.zip' " + said, refused.Message, StringComparison.Ordinal);
        }

        static ArchiveManifest With(ArchiveManifest manifest, string table, Func<string, string> column) => manifest with
        {
            Parts = [.. manifest.Parts.Select(p => p.Table == table ? p with { Columns = [.. p.Columns.Select(column)] } : p)],
        };
    }

    [Fact]
    public async Task An_archive_of_an_earlier_schema_is_imported_with_what_it_lacks_left_null()
    {
        long sweep = await EventfulSweepAsync();
        (byte[] bytes, _) = await ExportAsync(Address, sweep);
        const string Later = "loss_error_standard_error";
        byte[] older = Forge(
            bytes,
            (table, text) => table == "trial" ? WithoutColumn(text) : text,
            m => m with
            {
                Schema = 4,
                Parts = [.. m.Parts.Select(p => p.Table == "trial" ? p with { Columns = [.. p.Columns.Where(c => c != Later)] } : p)],
            });
        StoreAddress elsewhere = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore other = await ResultStore.OpenAsync(elsewhere, Cancellation);
        ImportedSweep imported = await ImportAsync(other, older);
        Assert.Equal(12L, imported.Stored);
        Assert.Equal(0L, await ScalarAsync(elsewhere, $"SELECT count({Later}) FROM experiments.trial"));
        Assert.Equal(12L, await ScalarAsync(elsewhere, "SELECT count(kernel) FROM experiments.trial"));

        string WithoutColumn(string text)
        {
            using ZipArchive zip = new(new MemoryStream(bytes));
            using StreamReader reader = new(zip.GetEntry("manifest.json")!.Open());
            int place = ArchiveManifest.Parse(Encoding.UTF8.GetBytes(reader.ReadToEnd())).Parts.Single(p => p.Table == "trial").Columns
                .ToList().IndexOf(Later);
            Assert.True(place > 0);
            return string.Concat(text.Split('\n', StringSplitOptions.RemoveEmptyEntries)
                .Select(row => string.Join('\t', row.Split('\t').Where((_, i) => i != place)) + "\n"));
        }
    }

    [Fact]
    public async Task An_import_gives_way_to_nobody_who_stores_the_same_reference_and_loses_nothing()
    {
        long sweep = await EventfulSweepAsync();
        (byte[] bytes, _) = await ExportAsync(Address, sweep);
        StoreAddress elsewhere = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore other = await ResultStore.OpenAsync(elsewhere, Cancellation);
        long theirs = await Make.SweepAsync(other, 8, 4);
        int node = await Make.NodeAsync(other);
        Task<ImportedSweep> importing = ImportAsync(other, bytes);
        for (int shard = 0; shard < 8; shard++)
        {
            ShardLease lease = await Make.GrantOneAsync(other, theirs, shard, node);
            ShardCommit commit = Make.Commit(lease, node) with { References = [Reference(Make.Outcome(0).Instance.Key, null)] };
            Assert.Equal(CommitResult.Stored, await other.CommitAsync(commit, Cancellation));
        }

        Assert.Equal(12L, (await importing).Stored);
        Assert.Equal(2L, await ScalarAsync(elsewhere, "SELECT count(*) FROM experiments.reference"));
        Assert.Equal(SweepState.Done, (await other.ProgressAsync(theirs, Cancellation)).State);
    }

    /// <summary>Five shards of four trials: three committed (one of them retried and done by another node), one leased, one ready; text that
    /// has to be escaped, spans with and without a sweep, references whole and of drawn rows.</summary>
    private async Task<long> EventfulSweepAsync()
    {
        Guid trace = Guid.NewGuid();
        NewSweep sweep = Make.Sweep(20) with
        {
            Source = "name: test\n# tab\there, back\\slash, \\. and \\N, quote ' \" and ∂X\r\n",
            Traceparent = $"00-{trace:N}-00000000000000ff-01",
        };
        long id = await Store.CreateSweepAsync(sweep, Make.Shards(5, 4), Cancellation);
        int first = await Make.NodeAsync(Store, """{"cpu":"a\\b\tc\nd","vector_bits":256}""");
        int second = await Make.NodeAsync(Store, """{"cpu":"other"}""");
        await CommitAsync(0, first, [Reference(Make.Outcome(0).Instance.Key, null), Reference(Guid.NewGuid(), null)]);
        await CommitAsync(1, first, [Reference(Identity.KeyOfReference(Make.Outcome(4).Instance.Key, 16), 16)]);
        ShardLease failed = await Make.GrantOneAsync(Store, id, 2, first);
        await Store.CommitAsync(Make.Commit(failed, first, TrialStatus.Failed), Cancellation);
        Assert.Equal(5, await Store.RetryAsync(id, failed: true, skipped: false, Cancellation));
        await CommitAsync(2, second, []);
        ShardLease again = await Make.GrantOneAsync(Store, id, 0, second);
        await Store.CommitAsync(Make.Commit(again, second, TrialStatus.Failed, [1]), Cancellation);
        await Make.GrantOneAsync(Store, id, 3, second);
        SpanRecord root = new(trace, 255, 0, "experiments run", "client", DateTimeOffset.UnixEpoch, 1, "broke\tat \\ last", id, null, null, null);
        await Store.WriteSpansAsync([root, root with { SpanId = 256, ParentId = 255, SweepId = null, Error = null }], Cancellation);
        await OwnerAsync($"DELETE FROM experiments.reference WHERE instance_key NOT IN ('{Make.Outcome(0).Instance.Key}', "
            + $"'{Identity.KeyOfReference(Make.Outcome(4).Instance.Key, 16)}')");
        return id;

        async Task CommitAsync(int shard, int node, IReadOnlyList<ReferenceRecord> references)
        {
            ShardLease lease = await Make.GrantOneAsync(Store, id, shard, node);
            ShardCommit commit = Make.Commit(lease, node, (place, outcome) =>
            {
                if (shard == 0 && place == 1)
                {
                    // Trial 1 fails first, and again after the retry.
                    outcome.Status = TrialStatus.Failed;
                    outcome.Reason = "line\nfeed\tand \\ tab";
                }
                else if (shard == 1)
                {
                    outcome.ReferenceRows = 16;
                    outcome.Loss = double.Epsilon;
                    outcome.GradientAbsoluteError = Math.PI;
                }
            }) with
            { References = references };
            Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit, Cancellation));
        }
    }

    private static ReferenceRecord Reference(Guid key, int? rows) =>
        new(key, [1, -0.0, double.MaxValue], [0.1, 1e-300], 0.25, 1, 0.5, 0.06) { Rows = rows };

    private static async Task FinishAsync(ResultStore store, long sweep)
    {
        Assert.Equal(1, await store.RetryAsync(sweep, failed: true, skipped: false, Cancellation));
        Assert.True(await store.SetSweepStateAsync(sweep, SweepState.Running, Cancellation));
        int node = await Make.NodeAsync(store);
        foreach (int shard in (int[])[0, 3, 4])
        {
            ShardLease lease = await Make.GrantOneAsync(store, sweep, shard, node);
            IReadOnlySet<long> stored = await store.StoredTrialsAsync(sweep, shard, Cancellation);
            long[] missing = [.. Enumerable.Range(0, 4).Select(i => lease.FirstTrial + i).Where(t => !stored.Contains(t))];
            Assert.Equal(CommitResult.Stored, await store.CommitAsync(Make.Commit(lease, node, trials: missing), Cancellation));
        }
    }

    private static async Task<(byte[] Bytes, ArchiveManifest Manifest)> ExportAsync(StoreAddress address, long sweep)
    {
        await using ResultStore reader = await ResultStore.OpenReaderAsync(address, Cancellation);
        using MemoryStream file = new();
        ArchiveManifest manifest = (await reader.ExportArchiveAsync(sweep, file, Build, Cancellation))!;
        return (file.ToArray(), manifest);
    }

    private static async Task<ImportedSweep> ImportAsync(ResultStore store, byte[] bytes, bool again = false)
    {
        using SweepArchive archive = await SweepArchive.OpenAsync(new MemoryStream(bytes), "a.zip", Cancellation);
        return await store.ImportArchiveAsync(archive, again, Cancellation);
    }

    /// <summary>True when it opens and says the same; false when it is refused in one line.</summary>
    private static async Task<bool> OpensAsAsync(byte[] bytes, ArchiveManifest manifest)
    {
        try
        {
            using SweepArchive archive = await SweepArchive.OpenAsync(new MemoryStream(bytes), "a.zip", Cancellation);
            Assert.Equal(Encoding.UTF8.GetString(manifest.ToJson()), Encoding.UTF8.GetString(archive.Manifest.ToJson()));
            return true;
        }
        catch (InvalidDataException refused)
        {
            Assert.StartsWith("'a.zip' ", refused.Message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', refused.Message);
            return false;
        }
    }

    /// <summary>The archive with parts and manifest changed, and every hash made right again.</summary>
    private static byte[] Forge(byte[] bytes, Func<string, string, string> part, Func<ArchiveManifest, ArchiveManifest> change)
    {
        using ZipArchive zip = new(new MemoryStream(bytes));
        List<(string, byte[])> files = [];
        byte[] told = [];
        Dictionary<string, byte[]> parts = [];
        foreach (ZipArchiveEntry entry in zip.Entries)
        {
            using MemoryStream content = new();
            using Stream from = entry.Open();
            from.CopyTo(content);
            if (entry.Name.EndsWith(".tsv", StringComparison.Ordinal))
            {
                string table = entry.Name[..^4];
                parts[table] = Encoding.UTF8.GetBytes(part(table, Encoding.UTF8.GetString(content.ToArray())));
                files.Add((entry.Name, parts[table]));
            }
            else if (entry.Name == "manifest.json")
            {
                told = content.ToArray();
            }
        }

        ArchiveManifest manifest = ArchiveManifest.Parse(told);
        byte[] json = change(manifest with
        {
            Parts = [.. manifest.Parts.Select(p => p with
            {
                Bytes = parts[p.Table].Length,
                Rows = parts[p.Table].Count(b => b == '\n'),
                Sha256 = Convert.ToHexStringLower(SHA256.HashData(parts[p.Table])),
            })],
        }).ToJson();

        // A path that leads out of any folder is a name nobody asks for.
        return Zip([.. files, ("manifest.json", json), ("manifest.sha256", SweepArchive.HashLine(json)), ("../../trial.tsv", [1])]);
    }

    private static byte[] Zip(IReadOnlyList<(string Name, byte[] Bytes)> files)
    {
        using MemoryStream file = new();
        using (ZipArchive zip = new(file, ZipArchiveMode.Create, leaveOpen: true))
        {
            foreach ((string name, byte[] bytes) in files)
            {
                using Stream entry = zip.CreateEntry(name).Open();
                entry.Write(bytes);
            }
        }

        return file.ToArray();
    }

    // Of a shard its state, of a sweep its state and end are what an import changes.
    private static async Task<string[]> RowsAsync(StoreAddress address, string table, long sweep) =>
        ((string)(await ScalarAsync(address, $"""
            SELECT coalesce(string_agg(r, E'\n' ORDER BY r), '') FROM (
                SELECT (to_jsonb(t) - 'id' - 'sweep_id' - 'node_id' - 'committed_node' - 'lease_until'
                    - CASE WHEN '{table}' IN ('sweep', 'shard') THEN 'state' ELSE '' END
                    - CASE WHEN '{table}' = 'sweep' THEN 'finished_at' ELSE '' END)::text AS r
                FROM experiments.{table} t
                WHERE {(table == "sweep" ? "id" : "sweep_id")} = {sweep}
                    {(table == "span" ? "OR sweep_id IS NULL" : "")}) rows
            """))!).Split('\n', StringSplitOptions.RemoveEmptyEntries);

    /// <summary>Which trial ran on what, by the node's facts and not its number.</summary>
    private static async Task<object?> NodesAsync(StoreAddress address, long sweep) => await ScalarAsync(address, $"""
        SELECT string_agg(r, '|' ORDER BY r) FROM (
            SELECT concat_ws(' ', 'trial', t.trial, k.name, k.host, k.process_id, k.started_at, k.facts) AS r
            FROM experiments.trial t JOIN experiments.node k ON k.id = t.node_id WHERE t.sweep_id = {sweep}
            UNION ALL
            SELECT concat_ws(' ', 'shard', s.number, k.facts) FROM experiments.shard s JOIN experiments.node k ON k.id = s.node_id
            WHERE s.sweep_id = {sweep}) rows
        """);

    private static async Task EmptyAsync(StoreAddress address)
    {
        foreach (string table in (string[])[.. Tables, "node", "reference"])
        {
            Assert.Equal(0L, await ScalarAsync(address, $"SELECT count(*) FROM experiments.{table}"));
        }
    }

    private static async Task<object?> ScalarAsync(StoreAddress address, string sql)
    {
        await using NpgsqlConnection connection = new(address.Owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        return await command.ExecuteScalarAsync(Cancellation);
    }
}
