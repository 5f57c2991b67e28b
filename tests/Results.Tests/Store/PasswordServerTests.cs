using Experiments.Results.Migrations;
using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Results.Tests.Store;

/// <summary>A server as organisations have them: over TCP, with passwords, its owner no superuser.</summary>
public sealed class PasswordServerTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_plain_owner_gets_a_reader_by_password_whose_queries_leave_nothing()
    {
        (string owner, string superuser) = await TestPostgres.StartWithPasswordsAsync("the owners secret");
        StoreAddress address = await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation);
        Assert.Equal("theirs_reader", Assert.Single(await QueryAsync(address, "SELECT session_user::text"))[0]);
        Assert.Equal(address, await Migrator.MigrateAsync(owner, null, Assert.Fail, Cancellation));
        Assert.Equal(address, await Migrator.FindAsync(owner, Cancellation));

        // Large objects are beyond the owner's power to forbid; what one query made is gone with it.
        foreach (string sql in (string[])
            ["SELECT lo_create(0)", "SELECT lo_create(4711)", "SELECT lo_from_bytea(0, 'x')", "SELECT pg_advisory_lock(7)"])
        {
            try
            {
                await QueryAsync(address, sql);
            }
            catch (QueryException refused)
            {
                Assert.Contains("read-only", refused.Message, StringComparison.Ordinal);
            }
        }

        Assert.Equal(0L, await ScalarAsync(superuser, "SELECT count(*) FROM pg_largeobject_metadata"));
        Assert.Equal(0L, await ScalarAsync(superuser, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"));

        await using (ResultStore writer = await ResultStore.OpenAsync(address, Cancellation))
        {
            await Make.SweepAsync(writer, 1, 1);
        }

        await using (ResultStore reader = await ResultStore.OpenReaderAsync(address, Cancellation))
        {
            Assert.Equal(1, await reader.FindSweepAsync("last", Cancellation));
            await Assert.ThrowsAsync<StoreUnavailableException>(() => Make.SweepAsync(reader, 1, 1));
        }

        // A reader that cannot log in any more: our own statements are read otherwise, a person's never.
        StoreAddress stale = address with
        {
            Reader = new NpgsqlConnectionStringBuilder(address.Reader) { Password = "of last year" }.ConnectionString,
        };
        await using (ResultStore other = await ResultStore.OpenReaderAsync(stale, Cancellation))
        {
            Assert.Equal(1, await other.FindSweepAsync("last", Cancellation));
        }

        StoreUnavailableException told = await Assert.ThrowsAsync<StoreUnavailableException>(() => QueryAsync(stale, "SELECT 1"));
        Assert.Contains("reader's login", told.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("last year", told.Message, StringComparison.Ordinal);
    }

    private static async Task<List<object?[]>> QueryAsync(StoreAddress address, string sql)
    {
        await using ResultRows rows = await ReaderQuery.RunAsync(address, sql, null, Cancellation);
        return await rows.ReadAsync(Cancellation).ToListAsync(Cancellation);
    }

    private static async Task<object?> ScalarAsync(string address, string sql)
    {
        await using NpgsqlConnection connection = new(address);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        return await command.ExecuteScalarAsync(Cancellation);
    }
}
