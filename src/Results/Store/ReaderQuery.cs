using System.Globalization;
using Experiments.Results.Migrations;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>A person's SQL, which can only read.</summary>
/// <remarks>Four fences, each enough for most of it: it logs in as the reader, who has been granted nothing but SELECT; its transaction
/// is read-only; that transaction is always rolled back; and a single statement is taken, one that returns rows, so that it is no
/// COMMIT and nothing can follow one. The connection is closed afterwards, never pooled.</remarks>
public static class ReaderQuery
{
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(30);

    /// <summary>Runs one statement and streams its rows.</summary>
    /// <exception cref="QueryException">The statement was refused or failed.</exception>
    /// <exception cref="StoreUnavailableException">There is no reader to run it as, or the server was not reached.</exception>
    public static async Task<ResultRows> RunAsync(
        StoreAddress address, string sql, TimeSpan? timeout, CancellationToken cancellation)
    {
        if (string.IsNullOrWhiteSpace(sql))
        {
            throw new QueryException("There is no SQL to run. Try: SELECT * FROM trials LIMIT 10");
        }

        if (string.IsNullOrEmpty(address.Reader))
        {
            string database = new NpgsqlConnectionStringBuilder(address.Owner).Database ?? "experiments";
            throw new StoreUnavailableException(
                "`query` never runs as the owner, and the owner may not make a reader. Have an administrator run: "
                + $"{Migrator.RolesByHand(database)} Then set EXPERIMENTS_POSTGRES_READER to its connection string.");
        }

        NpgsqlConnectionStringBuilder settings = new(address.Reader)
        {
            Pooling = false,
            SearchPath = "experiments, pg_catalog",
            ApplicationName = "experiments query",
            Timezone = "UTC",
            // An array of a person's own may hold NULL, which double[] has no room for.
            ArrayNullabilityMode = ArrayNullabilityMode.PerInstance,
        };
        NpgsqlConnection connection = new(settings.ConnectionString);
        try
        {
            await OpenAsync(connection, address, cancellation);
            await ExecuteAsync(connection, "reader-begin", cancellation);
            await RefusePowersAsync(connection, cancellation);
            string limit = ((long)(timeout ?? DefaultTimeout).TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
            await ExecuteAsync(connection, "reader-timeout", cancellation, limit);
            return await ResultRows.OpenAsync(connection, sql, [], cancellation);
        }
        catch (PostgresException fault)
        {
            await connection.DisposeAsync();
            throw QueryException.From(fault);
        }
        catch (NpgsqlException fault)
        {
            await connection.DisposeAsync();
            throw StoreFaults.Explain(fault, address.Reader);
        }
        catch (Exception fault) when (fault is NotSupportedException or InvalidOperationException)
        {
            // The driver's own refusal: several statements, or COPY, which has no rows to stream.
            await connection.DisposeAsync();
            throw new QueryException($"`query` takes one statement that returns rows. ({fault.Message})", fault);
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    }

    private static async Task OpenAsync(NpgsqlConnection connection, StoreAddress address, CancellationToken cancellation)
    {
        try
        {
            await connection.OpenAsync(cancellation);
        }
        catch (PostgresException fault) when (
            fault.SqlState is PostgresErrorCodes.InvalidPassword or PostgresErrorCodes.InvalidAuthorizationSpecification)
        {
            throw new StoreUnavailableException(
                $"{StoreFaults.Place(address.Reader)} refused the reader's login: {fault.MessageText}. If the owner's password changed, "
                + "run `experiments database migrate`; where no password is used, set EXPERIMENTS_POSTGRES_READER to a connection "
                + "string that works.", fault);
        }
        catch (Exception fault) when (fault is NpgsqlException or System.Net.Sockets.SocketException or TimeoutException)
        {
            throw StoreFaults.Explain(fault, address.Reader);
        }
    }

    private static async Task RefusePowersAsync(NpgsqlConnection connection, CancellationToken cancellation)
    {
        await using NpgsqlCommand look = new(SqlText.Named("reader-powers"), connection);
        await using NpgsqlDataReader row = await look.ExecuteReaderAsync(cancellation);
        if (await row.ReadAsync(cancellation) && row.GetBoolean(0))
        {
            throw new StoreUnavailableException(
                $"The role {row.GetString(1)} can write, so `query` does not run as it. Name one that only reads in "
                + "EXPERIMENTS_POSTGRES_READER.");
        }
    }

    private static async Task ExecuteAsync(
        NpgsqlConnection connection, string statement, CancellationToken cancellation, params object[] values)
    {
        await using NpgsqlCommand command = new(SqlText.Named(statement), connection);
        foreach (object value in values)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = value });
        }

        await command.ExecuteNonQueryAsync(cancellation);
    }
}
