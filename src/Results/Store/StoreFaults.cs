using System.Net.Sockets;
using Experiments.Results.PrivatePostgres;
using Npgsql;
using Polly;
using Polly.Retry;

namespace Experiments.Results.Store;

/// <summary>What may be tried again, and what is said of the rest.</summary>
internal static class StoreFaults
{
    // Below two segments of write-ahead log Postgres cannot go on.
    internal const long LeastFreeBytes = 32L << 20;

    /// <summary>Eight tries in some ten seconds: a fail-over or a restart of the server, but not an outage. A server that says it is
    /// starting is given two minutes, since after a crash it has its log to replay first.</summary>
    internal static readonly ResiliencePipeline Retry = new ResiliencePipelineBuilder()
        .AddRetry(new RetryStrategyOptions
        {
            ShouldHandle = new PredicateBuilder().Handle<PostgresException>(f => f.SqlState == PostgresErrorCodes.CannotConnectNow),
            MaxRetryAttempts = 12,
            Delay = TimeSpan.FromSeconds(1),
        })
        .AddRetry(new RetryStrategyOptions
        {
            ShouldHandle = new PredicateBuilder().Handle<Exception>(IsTransient),
            MaxRetryAttempts = 8,
            Delay = TimeSpan.FromMilliseconds(30),
            MaxDelay = TimeSpan.FromSeconds(4),
            BackoffType = DelayBackoffType.Exponential,
            UseJitter = true,
        })
        .Build();

    /// <summary>Runs a whole unit of work, again when it failed by no fault of its own, and explains what remains.</summary>
    internal static async Task<T> RunAsync<T>(
        string address, Func<CancellationToken, ValueTask<T>> work, CancellationToken cancellation)
    {
        try
        {
            return await Retry.ExecuteAsync(work, cancellation);
        }
        catch (Exception fault) when (fault is NpgsqlException or SocketException or TimeoutException
            || (fault is IOException && IsTransient(fault)))
        {
            throw Explain(fault, address);
        }
    }

    /// <summary>Opens a connection, once, or says why not.</summary>
    internal static async Task OpenAsync(NpgsqlConnection connection, CancellationToken cancellation)
    {
        string address = connection.ConnectionString;
        try
        {
            await connection.OpenAsync(cancellation);
        }
        catch (Exception fault) when (fault is NpgsqlException or SocketException or TimeoutException)
        {
            throw Explain(fault, address);
        }
    }

    internal static bool IsTransient(Exception fault) => fault switch
    {
        // Deadlocks and serialisation failures; a server that starts, stops or fails over; its connections all taken.
        PostgresException server => server.SqlState is "40001" or "40P01" or "57P01" or "57P02" or "57P03" or "53300"
            || server.SqlState.StartsWith("08", StringComparison.Ordinal),
        NpgsqlException driver => driver.IsTransient || driver.InnerException is IOException or SocketException or TimeoutException,
        IOException or SocketException or TimeoutException => true,
        _ => false,
    };

    /// <summary>Beyond what is worth a second try at once: what somebody mends while others wait.</summary>
    private static bool MayPass(Exception fault) => IsTransient(fault) || fault is PostgresException
    {
        SqlState: PostgresErrorCodes.DiskFull or PostgresErrorCodes.OutOfMemory or PostgresErrorCodes.InsufficientResources or PostgresErrorCodes.IoError,
    };

    /// <summary>A sentence for a person: what was tried, what was needed, what to do. It never holds a password.</summary>
    internal static StoreUnavailableException Explain(Exception fault, string address)
    {
        string place = Place(address);
        string text = fault switch
        {
            PostgresException { SqlState: PostgresErrorCodes.InvalidPassword or PostgresErrorCodes.InvalidAuthorizationSpecification } refused =>
                $"{place} refused the login: {refused.MessageText}. Check Username and Password in EXPERIMENTS_POSTGRES.",
            PostgresException { SqlState: PostgresErrorCodes.InvalidCatalogName } =>
                $"{place} has no such database. Make it (`createdb`), or name another in EXPERIMENTS_POSTGRES.",
            PostgresException { SqlState: PostgresErrorCodes.DiskFull } full =>
                $"{place} has no room left on its disk ({full.MessageText}). Nothing of this was stored; make room, then `experiments resume`.",
            PostgresException { SqlState: PostgresErrorCodes.InsufficientPrivilege } denied =>
                $"{place} did not permit this: {denied.MessageText}. A role that owns the database (or its schema experiments) is needed.",
            PostgresException { SqlState: PostgresErrorCodes.TooManyConnections } =>
                $"{place} has no connection free. Raise max_connections, or run fewer silos.",
            PostgresException { SqlState: PostgresErrorCodes.UndefinedTable or PostgresErrorCodes.InvalidSchemaName } =>
                $"{place} does not have our tables. Run `experiments database migrate`.",
            PostgresException other => $"{place} reported {other.SqlState}: {other.MessageText}.",
            _ when PrivateServer.FolderOf(new NpgsqlConnectionStringBuilder(address).Host) is string folder => Stopped(folder, fault),
            _ => $"{place} could not be reached: {Cause(fault, address)}. Check that it runs and that EXPERIMENTS_POSTGRES is right; "
                + "unset, a private server is started.",
        };
        return new StoreUnavailableException(text, fault) { MayPass = MayPass(fault) };
    }

    /// <summary>Where a connection string leads, without who logs in how.</summary>
    internal static string Place(string address)
    {
        NpgsqlConnectionStringBuilder settings = new(address);
        string host = settings.Host ?? "localhost";
        string port = host.StartsWith('/') ? "" : $":{settings.Port}";

        // Where none is named the driver takes the operating system's.
        string user = string.IsNullOrEmpty(settings.Username) ? Environment.UserName : settings.Username;
        string database = string.IsNullOrEmpty(settings.Database) ? user : settings.Database;
        return $"PostgreSQL at {host}{port}, database '{database}', user '{user}'";
    }

    /// <summary>That a folder's disk has too little room left for a server, or null.</summary>
    internal static string? FullDisk(string folder, long leastBytes)
    {
        long free = Directory.Exists(folder) ? new DriveInfo(folder).AvailableFreeSpace : long.MaxValue;
        return free < leastBytes
            ? $"The private database's disk is full: {free >> 20} MiB are left for {folder}, and {leastBytes >> 20} MiB are needed."
            : null;
    }

    /// <summary>Of a private server that went away under us.</summary>
    private static string Stopped(string folder, Exception fault)
    {
        return FullDisk(folder, LeastFreeBytes) is string full
            ? $"{full} What was committed is stored and nothing by halves; make room, then `experiments resume`."
            : $"The private database in {folder} does not answer: {Innermost(fault)}. What was committed is stored and nothing by halves; the next "
                + $"command starts it again, and `experiments resume` goes on. Its log is {Path.Combine(folder, "server.log")}.";
    }

    private static string Cause(Exception fault, string address)
    {
        // Connecting to a socket that is not there fails with "Cannot assign requested address", which helps nobody.
        NpgsqlConnectionStringBuilder settings = new(address);
        if (settings.Host is { } host && host.StartsWith('/') && !File.Exists($"{host}/.s.PGSQL.{settings.Port}"))
        {
            return $"there is no socket {host}/.s.PGSQL.{settings.Port}";
        }

        return Innermost(fault);
    }

    private static string Innermost(Exception fault)
    {
        while (fault.InnerException is not null)
        {
            fault = fault.InnerException;
        }

        return fault.Message.TrimEnd('.');
    }
}
