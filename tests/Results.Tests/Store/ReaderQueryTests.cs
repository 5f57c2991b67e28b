using Experiments.Results.Store;

namespace Experiments.Results.Tests.Store;

public sealed class ReaderQueryTests : StoreTest
{
    public static TheoryData<string> Attacks => new(
        "DELETE FROM trial",
        "COMMIT; DELETE FROM trial",
        "COMMIT",
        "ROLLBACK",
        "SELECT 1; DELETE FROM trial",
        "SET default_transaction_read_only = off; DELETE FROM trial",
        "SET TRANSACTION READ WRITE",
        "SET ROLE experiments",
        "SET SESSION AUTHORIZATION experiments",
        "RESET ROLE",
        "RESET SESSION AUTHORIZATION",
        "WITH gone AS (DELETE FROM trial RETURNING 1) SELECT count(*) FROM gone",
        "INSERT INTO trial SELECT * FROM trial",
        "UPDATE sweep SET name = 'mine'",
        "TRUNCATE trial",
        "DROP TABLE trial",
        "CREATE TABLE t (a int)",
        "CREATE TEMP TABLE t (a int)",
        "CREATE SCHEMA mine",
        "SELECT * INTO mine FROM trial",
        "COPY (SELECT 1) TO PROGRAM 'touch /tmp/experiments-attack'",
        "COPY trial TO '/tmp/experiments-attack'",
        "COPY trial FROM PROGRAM 'echo 1'",
        "COPY (SELECT 1) TO STDOUT",
        "DO $$ BEGIN DELETE FROM experiments.trial; END $$",
        "DO $$ BEGIN COMMIT; DELETE FROM experiments.trial; END $$",
        "DO $$ BEGIN EXECUTE 'SET TRANSACTION READ WRITE'; DELETE FROM experiments.trial; END $$",
        "SELECT lo_create(4711)",
        "SELECT lo_from_bytea(4711, '\\x00')",
        "SELECT nextval(pg_get_serial_sequence('experiments.sweep', 'id'))",
        "SELECT setval(pg_get_serial_sequence('experiments.sweep', 'id'), 1000)",
        "SELECT query_to_xml('DELETE FROM experiments.trial', true, true, '')",
        "SELECT set_config('transaction_read_only', 'off', false), query_to_xml('DELETE FROM experiments.trial', true, true, '')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM pg_authid",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'experiments'",
        "EXPLAIN ANALYZE DELETE FROM trial",
        "PREPARE p AS DELETE FROM trial",
        "LOCK TABLE trial",
        "GRANT experiments TO CURRENT_USER",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "LISTEN x; DELETE FROM trial",
        "VACUUM trial",
        "not sql at all",
        "");

    [Theory]
    [MemberData(nameof(Attacks))]
    public async Task An_attack_changes_nothing(string sql)
    {
        long sweep = await StoreOneAsync();
        object? before = await FingerprintAsync();
        try
        {
            await using ResultRows rows = await ReaderQuery.RunAsync(Address, sql, null, Cancellation);
            await foreach (object?[] row in rows.ReadAsync(Cancellation))
            {
                Assert.NotNull(row);
            }

            // What ends without an error did so inside a transaction that is rolled back.
            Assert.Contains("lo_", sql, StringComparison.Ordinal);
        }
        catch (QueryException refused)
        {
            Assert.DoesNotContain("   at ", refused.Message, StringComparison.Ordinal);
        }

        Assert.Equal(before, await FingerprintAsync());
        Assert.False(File.Exists("/tmp/experiments-attack"));
        Assert.Equal(4, (await Store.StoredTrialsAsync(sweep, 0, Cancellation)).Count);
    }

    [Theory]
    [InlineData("RESET ROLE")]
    [InlineData("SET statement_timeout = 0")]
    [InlineData("COMMIT")]
    [InlineData("BEGIN")]
    [InlineData("DO $$ BEGIN NULL; END $$")]
    [InlineData("LISTEN x")]
    [InlineData("COPY (SELECT 1) TO STDOUT")]
    [InlineData("SELECT 1; SELECT 2")]
    [InlineData("COMMIT; SELECT 1")]
    public async Task Only_one_statement_that_returns_rows_is_taken(string sql)
    {
        QueryException refused = await Assert.ThrowsAsync<QueryException>(() => ReaderQuery.RunAsync(Address, sql, null, Cancellation));
        Assert.Contains("takes one statement that returns rows", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
    }

    [Theory]
    [InlineData("TABLE sweep_progress")]
    [InlineData("VALUES (1)")]
    [InlineData("EXPLAIN SELECT 1")]
    [InlineData("SHOW server_version")]
    [InlineData("SELECT 1;")]
    [InlineData("SELECT 1 WHERE false")]
    public async Task Anything_that_returns_rows_is_taken(string sql)
    {
        await using ResultRows rows = await ReaderQuery.RunAsync(Address, sql, null, Cancellation);
        Assert.NotEmpty(rows.Columns);
    }

    [Fact]
    public async Task Rows_come_with_their_names_and_types()
    {
        await StoreOneAsync();
        await using ResultRows rows = await ReaderQuery.RunAsync(
            Address,
            """
            SELECT trial, kernel, loss, trial_key, started_at, 1.5::numeric AS number, 'NaN'::numeric AS no_number,
                   ARRAY[1.5::float8] AS list, ROW(1, 'a') AS pair, NULL AS nothing, 'infinity'::timestamptz AS never
            FROM trials ORDER BY trial
            """,
            null,
            Cancellation);
        Assert.Equal(
            ["trial", "kernel", "loss", "trial_key", "started_at", "number", "no_number", "list", "pair", "nothing", "never"],
            rows.Columns.Select(c => c.Name));
        List<object?[]> read = await rows.ReadAsync(Cancellation).ToListAsync(Cancellation);
        Assert.Equal(4, read.Count);
        object?[] first = read[0];
        Assert.Equal(0L, first[0]);
        Assert.Equal("exact", first[1]);
        Assert.Equal(0.25, first[2]);
        Assert.IsType<Guid>(first[3]);
        Assert.Equal(new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero), first[4]);
        Assert.Equal(1.5m, first[5]);
        Assert.Equal("NaN", first[6]);
        Assert.Equal([1.5], Assert.IsType<double[]>(first[7]));
        Assert.Equal("(1,a)", first[8]);
        Assert.Null(first[9]);
        Assert.Equal("infinity", first[10]);
    }

    [Fact]
    public async Task A_query_that_takes_too_long_is_stopped_and_says_so()
    {
        QueryException fault = await Assert.ThrowsAsync<QueryException>(async () =>
        {
            await using ResultRows rows = await ReaderQuery.RunAsync(
                Address, "SELECT pg_sleep(60)", TimeSpan.FromMilliseconds(100), Cancellation);
            await rows.ReadAsync(Cancellation).ToListAsync(Cancellation);
        });
        Assert.Contains("time limit", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_result_may_be_left_half_read()
    {
        await using ResultRows rows = await ReaderQuery.RunAsync(Address, "SELECT generate_series(1, 100000000)", null, Cancellation);
        await foreach (object?[] row in rows.ReadAsync(Cancellation))
        {
            Assert.Equal(1, row[0]);
            break;
        }
    }

    [Fact]
    public async Task Query_never_runs_as_a_role_that_can_write()
    {
        foreach (string powerful in (string[])[Address.Owner, Address.Writer])
        {
            await Assert.ThrowsAsync<StoreUnavailableException>(
                () => ReaderQuery.RunAsync(Address with { Reader = powerful }, "SELECT 1", null, Cancellation));
        }

        StoreUnavailableException none = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => ReaderQuery.RunAsync(Address with { Reader = "" }, "SELECT 1", null, Cancellation));
        Assert.Contains("EXPERIMENTS_POSTGRES_READER", none.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_view_answers_and_every_one_is_explained()
    {
        await StoreOneAsync(120);
        string[] views =
        [
            "trials", "samples", "spans", "paired_speedup", "error_by_degree", "scaling_fit", "boundary", "phase_time", "sweep_progress",
        ];
        foreach (string view in views)
        {
            await using ResultRows rows = await ReaderQuery.RunAsync(Address, $"SELECT * FROM {view}", null, Cancellation);
            Assert.NotEmpty(await rows.ReadAsync(Cancellation).ToListAsync(Cancellation));
        }

        Assert.Equal(0L, await ScalarAsync("""
            SELECT count(*) FROM pg_class c WHERE relnamespace = 'experiments'::regnamespace AND relkind IN ('r', 'v')
            AND relname <> 'migration' AND obj_description(c.oid) IS NULL
            """));
    }

    private async Task<long> StoreOneAsync(int trials = 4)
    {
        long sweep = await Make.SweepAsync(Store, 1, trials);
        int node = await Make.NodeAsync(Store);
        await Store.CommitAsync(Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node), Cancellation);
        return sweep;
    }

    private Task<object?> FingerprintAsync() => ScalarAsync("""
        SELECT (SELECT count(*) FROM experiments.trial)::text || (SELECT string_agg(name, ',') FROM experiments.sweep)
            || (SELECT count(*) FROM pg_largeobject_metadata) || (SELECT count(*) FROM pg_class WHERE relpersistence <> 't')
            || (SELECT last_value FROM experiments.sweep_id_seq) || (SELECT count(*) FROM pg_namespace WHERE nspname NOT LIKE 'pg_%')
            || (SELECT count(*) FROM pg_auth_members) || (SELECT count(*) FILTER (WHERE rolsuper) FROM pg_roles)
        """);
}
