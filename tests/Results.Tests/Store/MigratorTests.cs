using Experiments.Results.Migrations;
using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Results.Tests.Store;

public sealed class MigratorTests
{
    // What 0018 added.
    private const string Made0018 = """
        DROP VIEW experiments.thread_speedup, experiments.paired_threads;
        ALTER TABLE experiments.summary DROP COLUMN fitted_degree_min, DROP COLUMN fitted_degree_max, DROP COLUMN predicted_error_max,
            DROP COLUMN thread_pairs, DROP COLUMN thread_speedup, DROP COLUMN thread_speedup_low, DROP COLUMN thread_speedup_high;

        """;

    // Takes it back, so that it is to be applied again.
    private const string Without0018 = Made0018 + "DELETE FROM experiments.migration WHERE scriptname >= '0018';";

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task An_empty_database_is_migrated_by_many_at_once_and_once()
    {
        string owner = await EmptyAsync();
        StoreAddress[] addresses = await Task.WhenAll(Enumerable.Range(0, 4).Select(
            _ => Task.Run(() => Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation))));
        Assert.Single(addresses.Distinct());
        Assert.Equal((long)Migrator.Scripts.Count, await ScalarAsync(owner, "SELECT count(*) FROM experiments.migration"));
        await using ResultStore store = await ResultStore.OpenAsync(addresses[0], Cancellation);
        Assert.Empty(await store.ListSweepsAsync(null, 10, null, Cancellation));
        string database = new NpgsqlConnectionStringBuilder(owner).Database!;
        Assert.Equal($"{database}_writer", new NpgsqlConnectionStringBuilder(addresses[0].Writer).Username);
        Assert.Equal($"{database}_reader", new NpgsqlConnectionStringBuilder(addresses[0].Reader).Username);
    }

    [Fact]
    public async Task Every_earlier_version_is_brought_forward_with_its_rows()
    {
        // What each script made, the last first, so that what those before it leave stays.
        string[] made =
        [
            // Rows alone, of no sweep here.
            "",
            Made0018 + "DROP VIEW experiments.sweep_progress, experiments.phase_time;",
            // With the views that it made anew; later scripts make them again.
            "DROP VIEW experiments.configured CASCADE; DROP FUNCTION experiments.settings_of_call;",
            "ALTER TABLE experiments.shard DROP COLUMN seen_before;",
            "DROP FUNCTION experiments.summarise(bigint, int[]), experiments.summarise_failures(bigint, int[]);",
            "ALTER TABLE experiments.shard DROP COLUMN second_node, DROP COLUMN second_until, DROP COLUMN committed_node;",
            "DROP TABLE experiments.sweep_file, experiments.file_piece, experiments.file;",
            """
            DROP FUNCTION experiments.silo_with_room, experiments.has_room;
            ALTER TABLE experiments.shard DROP COLUMN needs_free_bytes, DROP COLUMN needs_cores;
            """,
            """
            ALTER TABLE experiments.shard DROP COLUMN begun_epoch, DROP COLUMN dead_nodes;
            ALTER TABLE experiments.sweep DROP COLUMN isolated;
            """,
            """
            DROP TRIGGER sweep_priority_changed ON experiments.sweep;
            ALTER TABLE experiments.sweep DROP COLUMN priority;
            """,
            """
            ALTER TABLE experiments.shard DROP CONSTRAINT shard_part_is_known;
            ALTER TABLE experiments.shard DROP COLUMN part, DROP COLUMN own, DROP COLUMN part_epoch;
            ALTER TABLE experiments.sweep DROP COLUMN former_specifications;
            """,
            """
            DROP TRIGGER sweep_made ON experiments.sweep;
            DROP TRIGGER sweep_state_changed ON experiments.sweep;
            DROP FUNCTION experiments.tell_of_sweep;
            """,
            "ALTER TABLE experiments.sweep DROP COLUMN plug_ins;",
            """
            DROP VIEW experiments.trials;
            ALTER TABLE experiments.trial
                DROP COLUMN reference_rows, DROP COLUMN gradient_error_standard_error, DROP COLUMN loss_error_standard_error;
            ALTER TABLE experiments.trial_attempt
                DROP COLUMN reference_rows, DROP COLUMN gradient_error_standard_error, DROP COLUMN loss_error_standard_error;
            ALTER TABLE experiments.reference DROP COLUMN rows;
            ALTER TABLE experiments.summary DROP COLUMN estimated, DROP COLUMN error_standard_error;
            DROP FUNCTION experiments.relative_standard_error;
            """,
            """
            DROP VIEW IF EXISTS experiments.trials;
            ALTER TABLE experiments.trial DROP COLUMN fitted_degree;
            ALTER TABLE experiments.trial_attempt DROP COLUMN fitted_degree;
            """,
            """
            DROP FUNCTION experiments.summarise, experiments.summarise_failures;
            DROP TABLE experiments.summary, experiments.summary_failure;
            """,
            """
            DROP VIEW experiments.samples, experiments.spans, experiments.live_node; DROP VIEW IF EXISTS experiments.sweep_progress, experiments.phase_time;
            DROP FUNCTION experiments.interval_rank, experiments.student_t;
            """,
        ];
        Assert.Equal(Migrator.Scripts.Count - 1, made.Length);
        for (int missing = 1; missing <= made.Length; missing++)
        {
            await BringForwardAsync(missing, string.Concat(made[..missing]));
        }
    }

    private static async Task BringForwardAsync(int missing, string drop)
    {
        string owner = await EmptyAsync();
        await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        await ExecuteAsync(owner, $$"""
            DELETE FROM experiments.migration WHERE scriptname >= '{{Migrator.Scripts[^missing]}}';
            {{drop}}
            INSERT INTO experiments.node (name, host, process_id, facts) VALUES ('a', 'b', 1, '{}');
            """);
        Assert.Null(await Migrator.FindAsync(owner, Cancellation));
        StoreAddress address = await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        Assert.Equal(1L, await ScalarAsync(owner, "SELECT count(*) FROM experiments.node"));
        await using ResultRows rows = await ReaderQuery.RunAsync(address, "SELECT * FROM trials", null, Cancellation);
        Assert.NotEmpty(rows.Columns);
        Assert.NotNull(await Migrator.FindAsync(owner, Cancellation));
    }

    /// <summary>What was kept before 0017 had calls of all masks in one row.</summary>
    [Fact]
    public async Task A_kept_summary_that_lacks_what_is_new_is_made_again_and_others_stay()
    {
        string owner = await EmptyAsync();
        StoreAddress address = await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        await using ResultStore store = await ResultStore.OpenAsync(address, Cancellation);
        int node = await Make.NodeAsync(store);
        foreach ((string? mask, double? predicted) in ((string?, double?)[])[(null, null), ("causal", null), (null, 1e-3)])
        {
            long sweep = await Make.SweepAsync(store, 1, 8);
            await store.CommitAsync(
                Make.Commit(await Make.GrantOneAsync(store, sweep, 0, node), node, (_, o) => o.PredictedExpError = predicted), Cancellation);
            if (mask is not null)
            {
                await ExecuteAsync(owner, $$"""UPDATE experiments.trial SET parameters = coalesce(parameters, '{}') || '{"mask": "{{mask}}"}' WHERE sweep_id = {{sweep}} AND trial < 4""");
            }

            await store.KeepSummaryAsync(sweep, Cancellation);
        }

        const string Rows = "SELECT string_agg(sweep_id || ':' || n, ' ' ORDER BY sweep_id) FROM (SELECT sweep_id, count(*) AS n FROM experiments.summary "
            + "WHERE axis = 'none' GROUP BY sweep_id) s";
        Assert.Equal("1:4 2:8 3:4", await ScalarAsync(owner, Rows));
        await ExecuteAsync(owner, Without0018 + """
            DELETE FROM experiments.summary WHERE sweep_id = 2 AND kernel_parameters IS NOT NULL;
            UPDATE experiments.summary SET error_median = 42;
            """);
        await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        Assert.Equal("1:4 2:8 3:4", await ScalarAsync(owner, Rows));
        Assert.Equal("1", await ScalarAsync(owner, "SELECT string_agg(DISTINCT sweep_id::text, ' ') FROM experiments.summary WHERE error_median = 42"));
    }

    /// <summary>A script may sum up millions of trials anew; whoever comes meanwhile waits for it.</summary>
    [Fact]
    public async Task A_script_may_take_longer_than_a_command_may()
    {
        string owner = await EmptyAsync();
        await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        await ExecuteAsync(owner, Without0018);
        string impatient = new NpgsqlConnectionStringBuilder(owner) { CommandTimeout = 2 }.ConnectionString;
        await using NpgsqlConnection busy = new(owner);
        await busy.OpenAsync(Cancellation);
        await using NpgsqlTransaction reading = await busy.BeginTransactionAsync(Cancellation);
        await using (NpgsqlCommand hold = new("LOCK TABLE experiments.summary IN ACCESS SHARE MODE", busy, reading))
        {
            await hold.ExecuteNonQueryAsync(Cancellation);
        }

        Task[] both = [.. Enumerable.Range(0, 2).Select(_ => Task.Run(() => Migrator.MigrateAsync(impatient, null, Assert.Fail, Cancellation)))];
        await Task.WhenAny(Task.WhenAny(both), Task.Delay(TimeSpan.FromSeconds(5), Cancellation));
        await reading.RollbackAsync(Cancellation);
        await Task.WhenAll(both);
        Assert.NotNull(await Migrator.FindAsync(owner, Cancellation));
    }

    [Fact]
    public async Task A_newer_schema_is_refused_with_a_sentence()
    {
        string owner = await EmptyAsync();
        await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        await ExecuteAsync(owner, "INSERT INTO experiments.migration (scriptname, applied) VALUES ('9999_future.sql', now())");
        StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation));
        Assert.Contains("9999_future.sql", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_owner_who_may_not_make_roles_writes_itself_and_query_says_what_to_do()
    {
        string super = await EmptyAsync();
        string database = new NpgsqlConnectionStringBuilder(super).Database!;
        string owner = $"{database}_plain";
        TestPostgres postgres = await TestPostgres.SharedAsync();
        await postgres.ExecuteAsync($"CREATE ROLE {owner} LOGIN; ALTER DATABASE {database} OWNER TO {owner};");
        List<string> notices = [];
        string login = new NpgsqlConnectionStringBuilder(super) { Username = owner }.ConnectionString;
        StoreAddress address = await Migrator.MigrateAsync(login, null, notices.Add, Cancellation);
        Assert.Contains("CREATE ROLE", Assert.Single(notices), StringComparison.Ordinal);
        Assert.Equal(login, address.Writer);
        StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => ReaderQuery.RunAsync(address, "SELECT 1", null, Cancellation));
        Assert.Contains("EXPERIMENTS_POSTGRES_READER", fault.Message, StringComparison.Ordinal);

        await using ResultStore store = await ResultStore.OpenAsync(address, Cancellation);
        long sweep = await Make.SweepAsync(store, 1, 4);
        int node = await Make.NodeAsync(store);
        await store.CommitAsync(Make.Commit(await Make.GrantOneAsync(store, sweep, 0, node), node), Cancellation);
    }

    [Fact]
    public async Task Roles_get_passwords_that_follow_from_the_owners_and_work()
    {
        string super = await EmptyAsync();
        string database = new NpgsqlConnectionStringBuilder(super).Database!;
        string owner = new NpgsqlConnectionStringBuilder(super) { Password = "the owner's secret" }.ConnectionString;
        StoreAddress address = await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        string reader = new NpgsqlConnectionStringBuilder(address.Reader).Password!;
        Assert.Equal(43, reader.Length);
        Assert.NotEqual(reader, new NpgsqlConnectionStringBuilder(address.Writer).Password);
        // What is stored is a SCRAM verifier of exactly that password; the server here trusts, so it is recomputed.
        string stored = (string)(await ScalarAsync(owner, $"SELECT rolpassword FROM pg_authid WHERE rolname = '{database}_reader'"))!;
        string[] parts = stored.Split('$', ':');
        byte[] salted = System.Security.Cryptography.Rfc2898DeriveBytes.Pbkdf2(
            reader, Convert.FromBase64String(parts[2]), 4096, System.Security.Cryptography.HashAlgorithmName.SHA256, 32);
        byte[] key = System.Security.Cryptography.SHA256.HashData(
            System.Security.Cryptography.HMACSHA256.HashData(salted, "Client Key"u8));
        Assert.Equal("SCRAM-SHA-256", parts[0]);
        Assert.Equal(Convert.ToBase64String(key), parts[3]);
    }

    [Fact]
    public async Task A_reset_is_refused_while_a_silo_lives_and_drops_our_schema_alone()
    {
        string owner = await EmptyAsync();
        await ExecuteAsync(owner, "CREATE TABLE public.theirs (a int)");
        StoreAddress address = await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        await using (ResultStore store = await ResultStore.OpenAsync(address, Cancellation))
        {
            int node = await Make.NodeAsync(store);
            await Assert.ThrowsAsync<StoreUnavailableException>(() => Migrator.ResetAsync(address, Cancellation));
            await store.UnregisterNodeAsync(node);
        }

        await Migrator.ResetAsync(address, Cancellation);
        await Migrator.ResetAsync(address, Cancellation);
        Assert.Equal(0L, await ScalarAsync(owner, "SELECT count(*) FROM pg_namespace WHERE nspname = 'experiments'"));
        Assert.Equal(0L, await ScalarAsync(owner, "SELECT count(*) FROM public.theirs"));
        await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
    }

    [Theory]
    [InlineData("Host=/nowhere;Database=x;Username=u;Password=hunter2", "could not be reached")]
    [InlineData("Host=127.0.0.1;Port=1;Database=x;Username=u;Password=hunter2", "could not be reached")]
    [InlineData("{server};Database=missing;Username=experiments;Password=hunter2", "no such database")]
    [InlineData("{server};Database=postgres;Username=nobody_here;Password=hunter2", "refused the login")]
    public async Task A_server_that_cannot_be_used_is_one_message_without_the_password(string text, string said)
    {
        TestPostgres postgres = await TestPostgres.SharedAsync();
        string address = text.Replace("{server}", $"Host={postgres.Server.SocketFolder}", StringComparison.Ordinal);
        StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => Migrator.MigrateAsync(address, null, Assert.Fail, Cancellation));
        Assert.Contains(said, fault.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hunter2", fault.Message, StringComparison.Ordinal);
    }

    // Without a pool: some forty databases' idle connections would be more than the server has beside those of other tests.
    private static async Task<string> EmptyAsync() =>
        new NpgsqlConnectionStringBuilder(await (await TestPostgres.SharedAsync()).CreateEmptyDatabaseAsync()) { Pooling = false }.ConnectionString;

    private static async Task ExecuteAsync(string owner, string sql)
    {
        await using NpgsqlConnection connection = new(owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        await command.ExecuteNonQueryAsync(Cancellation);
    }

    private static async Task<object?> ScalarAsync(string owner, string sql)
    {
        await using NpgsqlConnection connection = new(owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        return await command.ExecuteScalarAsync(Cancellation);
    }
}
