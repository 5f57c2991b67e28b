using System.Globalization;
using System.Security.Cryptography;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>Holds a node's advisory lock on a connection of its own, and listens there: the process's death frees the lock at once, and a
/// sweep whose state changes is heard of at once. A connection that breaks under a living process is made anew.</summary>
internal sealed class NodeLiveness : IAsyncDisposable
{
    /// <summary>How long the holder of a lease is given to take its lock again after whatever broke our connection: longer than the longest
    /// pause between its tries.</summary>
    internal static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(2);
    private readonly string _address;
    private readonly Action<long?>? _told;
    private readonly CancellationTokenSource _stop = new();
    private NpgsqlConnection _connection;
    private Task _watching = Task.CompletedTask;
    private long _brokeAt;

    private NodeLiveness(string address, int nodeId, NpgsqlConnection connection, Action<long?>? told)
    {
        _address = address;
        NodeId = nodeId;
        _connection = connection;
        _told = told;
    }

    internal int NodeId { get; }

    /// <summary>Whether the connection has held for long enough that other nodes' locks tell who is alive.</summary>
    internal bool IsSteady => Volatile.Read(ref _brokeAt) is long at && (at == 0 || TimeProvider.System.GetElapsedTime(at) > Grace);

    /// <param name="told">See <see cref="ResultStore.RegisterNodeAsync"/>.</param>
    internal static async Task<NodeLiveness> StartAsync(string address, NodeRow node, Action<long?>? told, CancellationToken cancellation)
    {
        string lasting = Lasting(address);
        NpgsqlConnection connection = new(lasting);
        try
        {
            await connection.OpenAsync(cancellation);
            await ResultStore.WatchedAsync(connection, cancellation);
            await using NpgsqlCommand insert = new(SqlText.Named("insert-node"), connection);
            insert.Parameters.Add(new NpgsqlParameter { Value = CopyBuffer.CleanText(node.Name) });
            insert.Parameters.Add(new NpgsqlParameter { Value = CopyBuffer.CleanText(node.Host) });
            insert.Parameters.Add(new NpgsqlParameter { Value = node.ProcessId });
            insert.Parameters.Add(new NpgsqlParameter { Value = System.Text.Encoding.UTF8.GetString(CopyBuffer.CleanJson(node.Facts)) });
            int id = (int)(await insert.ExecuteScalarAsync(cancellation))!;
            NodeLiveness liveness = new(lasting, id, connection, told);
            await liveness.ListenAsync(cancellation);
            await liveness.LockAsync(cancellation);
            liveness._watching = liveness.WatchAsync();
            return liveness;
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _watching;
        await UnlockAsync();
        await _connection.DisposeAsync();
        _stop.Dispose();
    }

    private static string Lasting(string address) => new NpgsqlConnectionStringBuilder(address)
    {
        Pooling = false,
        // A silent loss of the network is noticed here, and by the server's own keep-alives on its side.
        KeepAlive = 10,
        ApplicationName = "experiments node",
    }.ConnectionString;

    private async Task ListenAsync(CancellationToken cancellation)
    {
        if (_told is null)
        {
            return;
        }

        _connection.Notification += (_, notice) =>
            _told(long.TryParse(notice.Payload, NumberStyles.None, CultureInfo.InvariantCulture, out long sweep) ? sweep : null);
        await using NpgsqlCommand command = new(SqlText.Named("listen"), _connection);
        await command.ExecuteNonQueryAsync(cancellation);
    }

    private async Task LockAsync(CancellationToken cancellation)
    {
        await using NpgsqlCommand command = new(SqlText.Named("node-lock"), _connection);
        command.Parameters.Add(new NpgsqlParameter { Value = NodeId });
        // False while the server has not yet noticed that our former connection is gone: that one keeps us alive till then.
        while (!(bool)(await command.ExecuteScalarAsync(cancellation))!)
        {
            await Task.Delay(Pause, cancellation);
        }
    }

    /// <summary>Closing the connection would do, a moment later.</summary>
    private async Task UnlockAsync()
    {
        if (_connection.State != System.Data.ConnectionState.Open)
        {
            return;
        }

        try
        {
            await using NpgsqlCommand command = new(SqlText.Named("node-unlock"), _connection);
            command.Parameters.Add(new NpgsqlParameter { Value = NodeId });
            await command.ExecuteNonQueryAsync();
        }
        catch (Exception fault) when (fault is NpgsqlException or IOException or InvalidOperationException)
        {
            // The server is gone, and the lock with it.
            _ = fault;
        }
    }

    private async Task WatchAsync()
    {
        TimeSpan pause = Pause;
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                if (_connection.State != System.Data.ConnectionState.Open)
                {
                    await _connection.DisposeAsync();
                    _connection = new NpgsqlConnection(_address);
                    await _connection.OpenAsync(_stop.Token);
                    await ResultStore.WatchedAsync(_connection, _stop.Token);
                    await ListenAsync(_stop.Token);

                    // What was said while nobody listened is lost: whoever works at sweeps looks for himself.
                    _told?.Invoke(null);
                    await LockAsync(_stop.Token);
                    Volatile.Write(ref _brokeAt, TimeProvider.System.GetTimestamp());
                    pause = Pause;
                }

                // Returns after a notice, or throws: when the connection breaks or we are to stop.
                await _connection.WaitAsync(_stop.Token);
            }
            catch (OperationCanceledException) when (_stop.IsCancellationRequested)
            {
                return;
            }
            catch (Exception fault) when (fault is NpgsqlException or IOException or System.Net.Sockets.SocketException
                or TimeoutException or ObjectDisposedException or InvalidOperationException)
            {
                Volatile.Write(ref _brokeAt, TimeProvider.System.GetTimestamp());

                // Until the lock is back our leases may be granted to others, and the fence keeps that harmless. By chance from half as long
                // to half as long again, so that a server that comes back does not meet every silo at once.
                TimeSpan jittered = pause * (0.5 + (RandomNumberGenerator.GetInt32(1000) / 1000.0));
                await Task.Delay(jittered, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
            }
        }
    }
}
