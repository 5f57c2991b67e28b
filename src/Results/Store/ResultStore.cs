using Experiments.Results.Migrations;
using Npgsql;
using NpgsqlTypes;

namespace Experiments.Results.Store;

/// <summary>The store, as silos and the command line use it. Every SQL statement lies in Store/Sql.</summary>
/// <remarks>Transient faults (a lost connection, 40001, 40P01) are retried within a bound, each time the whole unit of work;
/// what remains is a <see cref="StoreUnavailableException"/>.</remarks>
public sealed partial class ResultStore : IAsyncDisposable
{
    private readonly NpgsqlDataSource _source;
    private readonly string _address;
    private readonly List<NodeLiveness> _nodes = [];
    private readonly Lock _nodesLock = new();

    private ResultStore(NpgsqlDataSource source, string address)
    {
        _source = source;
        _address = address;
    }

    /// <summary>Connects as the writer. The schema must be migrated already (see <see cref="Migrator"/>).</summary>
    /// <remarks>A server that was named and asks for other proof than a password (peer, certificates) does not know the writer:
    /// then the owner writes.</remarks>
    public static async Task<ResultStore> OpenAsync(StoreAddress address, CancellationToken cancellation)
    {
        NpgsqlDataSource source = Source(
            address.Writer,
            builder => builder.UsePhysicalConnectionInitializer(
                connection => WatchedAsync(connection, CancellationToken.None).GetAwaiter().GetResult(),
                connection => WatchedAsync(connection, CancellationToken.None)));
        try
        {
            // The server answered a moment ago, when it was migrated, so one that does not now is about to.
            await StoreFaults.Retry.ExecuteAsync(
                static async (from, token) => await (await from.OpenConnectionAsync(token)).DisposeAsync(), source, cancellation);
            return new ResultStore(source, address.Writer);
        }
        catch (PostgresException refused) when (!address.IsPrivate && address.Writer != address.Owner
            && refused.SqlState is PostgresErrorCodes.InvalidPassword or PostgresErrorCodes.InvalidAuthorizationSpecification)
        {
            await source.DisposeAsync();
            return await OpenAsync(address with { Writer = address.Owner }, cancellation);
        }
        catch (Exception fault) when (fault is NpgsqlException or System.Net.Sockets.SocketException or TimeoutException)
        {
            await source.DisposeAsync();
            throw StoreFaults.Explain(fault, address.Writer);
        }
        catch
        {
            await source.DisposeAsync();
            throw;
        }
    }

    /// <summary>Connects as the reader, to answer. Where there is no reader, or the server does not let it in, our own fixed statements
    /// are read as the writer or the owner; people's SQL never is (see <see cref="ReaderQuery"/>).</summary>
    public static async Task<ResultStore> OpenReaderAsync(StoreAddress address, CancellationToken cancellation)
    {
        string[] addresses = [.. new[] { address.Reader, address.Writer, address.Owner }.Where(a => !string.IsNullOrEmpty(a)).Distinct()];
        for (int i = 0; ; i++)
        {
            NpgsqlDataSource source = Source(
                addresses[i],
                builder => builder.UsePhysicalConnectionInitializer(
                    connection => NoLimitAsync(connection, CancellationToken.None).GetAwaiter().GetResult(),
                    connection => NoLimitAsync(connection, CancellationToken.None)));
            try
            {
                await using NpgsqlConnection connection = source.CreateConnection();
                await connection.OpenAsync(cancellation);
                return new ResultStore(source, addresses[i]) { ServerVersion = connection.PostgreSqlVersion.ToString() };
            }
            catch (PostgresException refused) when (i < addresses.Length - 1
                && refused.SqlState is PostgresErrorCodes.InvalidPassword or PostgresErrorCodes.InvalidAuthorizationSpecification)
            {
                await source.DisposeAsync();
            }
            catch (Exception fault) when (fault is NpgsqlException or System.Net.Sockets.SocketException or TimeoutException)
            {
                await source.DisposeAsync();
                throw StoreFaults.Explain(fault, addresses[i]);
            }
        }
    }

    /// <summary>The server's version, as the first connection found it.</summary>
    public string? ServerVersion { get; private init; }

    public async ValueTask DisposeAsync()
    {
        NodeLiveness[] nodes;
        lock (_nodesLock)
        {
            nodes = [.. _nodes];
            _nodes.Clear();
        }

        foreach (NodeLiveness node in nodes)
        {
            await node.DisposeAsync();
        }

        await _source.DisposeAsync();
    }

    /// <summary>Has the server look whether this client is still there.</summary>
    internal static async Task WatchedAsync(NpgsqlConnection connection, CancellationToken cancellation)
    {
        await using NpgsqlCommand command = Command(connection, "keep-alive");
        await command.ExecuteNonQueryAsync(cancellation);
    }

    private static async Task NoLimitAsync(NpgsqlConnection connection, CancellationToken cancellation)
    {
        await using NpgsqlCommand command = Command(connection, "reader-patience");
        await command.ExecuteNonQueryAsync(cancellation);
    }

    private static NpgsqlDataSource Source(string address, Action<NpgsqlDataSourceBuilder>? more = null)
    {
        NpgsqlConnectionStringBuilder settings = new(address)
        {
            MaxAutoPrepare = 64,
            AutoPrepareMinUsages = 2,
            // Nothing of ours changes a session, so a connection needs no washing between uses.
            NoResetOnClose = true,
        };
        if (more is null)
        {
            return NpgsqlDataSource.Create(settings);
        }

        NpgsqlDataSourceBuilder builder = new(settings.ConnectionString);
        more(builder);
        return builder.Build();
    }

    private Task<T> RunAsync<T>(Func<NpgsqlConnection, CancellationToken, Task<T>> work, CancellationToken cancellation) =>
        StoreFaults.RunAsync(
            _address,
            async token =>
            {
                await using NpgsqlConnection connection = await _source.OpenConnectionAsync(token);
                return await work(connection, token);
            },
            cancellation);

    private Task<int> ExecuteAsync(string statement, CancellationToken cancellation, params object?[] values) => RunAsync(
        async (connection, token) =>
        {
            await using NpgsqlCommand command = Command(connection, statement, values);
            return await command.ExecuteNonQueryAsync(token);
        },
        cancellation);

    private Task<List<T>> QueryAsync<T>(
        string statement, Func<NpgsqlDataReader, T> read, CancellationToken cancellation, params object?[] values) => RunAsync(
        async (connection, token) =>
        {
            await using NpgsqlCommand command = Command(connection, statement, values);
            return await ReadAllAsync(command, read, token);
        },
        cancellation);

    private static async Task<List<T>> ReadAllAsync<T>(
        NpgsqlCommand command, Func<NpgsqlDataReader, T> read, CancellationToken cancellation)
    {
        List<T> rows = [];
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellation);
        while (await reader.ReadAsync(cancellation))
        {
            rows.Add(read(reader));
        }

        return rows;
    }

    private static NpgsqlCommand Command(NpgsqlConnection connection, string statement, params object?[] values)
    {
        NpgsqlCommand command = new(SqlText.Named(statement), connection);
        Add(command.Parameters, values);
        return command;
    }

    private static NpgsqlBatchCommand BatchCommand(string statement, params object?[] values)
    {
        NpgsqlBatchCommand command = new(SqlText.Named(statement));
        Add(command.Parameters, values);
        return command;
    }

    private static void Add(NpgsqlParameterCollection parameters, object?[] values)
    {
        foreach (object? value in values)
        {
            // A null of no type is text to Postgres; every nullable parameter of ours is.
            parameters.Add(value is null
                ? new NpgsqlParameter { Value = DBNull.Value, NpgsqlDbType = NpgsqlDbType.Text }
                : new NpgsqlParameter { Value = value is string text ? CopyBuffer.CleanText(text) : value });
        }
    }

    private static T? Nullable<T>(NpgsqlDataReader reader, int column) where T : struct =>
        reader.IsDBNull(column) ? null : reader.GetFieldValue<T>(column);

    private static string? NullableText(NpgsqlDataReader reader, int column) =>
        reader.IsDBNull(column) ? null : reader.GetString(column);

    private static DateTimeOffset Time(NpgsqlDataReader reader, int column) => reader.GetFieldValue<DateTimeOffset>(column);

    private static string Word(SweepState state) => state switch
    {
        SweepState.Running => "running",
        SweepState.Done => "done",
        _ => "cancelled",
    };

    private static SweepState SweepStateOf(string word) => word switch
    {
        "running" => SweepState.Running,
        "done" => SweepState.Done,
        _ => SweepState.Cancelled,
    };
}
