using System.Globalization;
using System.Runtime.InteropServices;
using Experiments.Results.Processes;
using Experiments.Results.Store;
using Npgsql;

namespace Experiments.Results.PrivatePostgres;

/// <summary>Stops a private server when nobody has used it for a while. A process of its own, one a folder.</summary>
public static class PostgresKeeper
{
    public static readonly TimeSpan DefaultIdle = TimeSpan.FromMinutes(15);

    /// <summary>The words after the executable that make it a keeper; the folder follows.</summary>
    public static readonly IReadOnlyList<string> Verb = ["database", "keeper"];

    /// <summary>How this very program is started as a keeper.</summary>
    public static IReadOnlyList<string> CommandLine() => BackgroundProcess.CommandOfThis(Verb);

    /// <summary>After how long: EXPERIMENTS_POSTGRES_IDLE (30s, 15min, 2h, or seconds), else a quarter of an hour.</summary>
    /// <exception cref="ArgumentException">The variable holds no time.</exception>
    public static TimeSpan IdleFromEnvironment()
    {
        string? text = Environment.GetEnvironmentVariable("EXPERIMENTS_POSTGRES_IDLE");
        return string.IsNullOrWhiteSpace(text) ? DefaultIdle : ParseIdle(text.Trim());
    }

    /// <summary>Watches until the server is gone, or has been idle for so long that it is stopped.</summary>
    /// <returns>True when this keeper stopped it.</returns>
    public static async Task<bool> RunAsync(string folder, TimeSpan idle, CancellationToken cancellation)
    {
        using IDisposable deaf = LeaveTerminal();
        PrivateServer server = new(new PrivateServerOptions(folder, null));
        using FileLock? alone = FileLock.TryAcquire(server.KeeperLockPath);
        if (alone is null)
        {
            return false;
        }

        try
        {
            return await WatchAsync(server, idle, cancellation);
        }
        catch (NpgsqlException)
        {
            return false; // The server is gone, and with it the reason to stay.
        }
    }

    private static async Task<bool> WatchAsync(PrivateServer server, TimeSpan idle, CancellationToken cancellation)
    {
        TimeProvider clock = TimeProvider.System;
        await using NpgsqlConnection connection = server.Unpooled("postgres", "experiments keeper");
        await connection.OpenAsync(cancellation);
        TimeSpan pause = TimeSpan.FromSeconds(Math.Clamp(idle.TotalSeconds / 10, 0.1, 30));
        long since = clock.GetTimestamp();
        Activity seen = await LookAsync(server, connection, cancellation);
        while (true)
        {
            // Waits for a notification that nobody sends; it throws at once when the server goes.
            await connection.WaitAsync(pause, cancellation);
            Activity now = await LookAsync(server, connection, cancellation);
            if (now.Clients > 0 || now != seen)
            {
                seen = now;
                since = clock.GetTimestamp();
            }
            else if (clock.GetElapsedTime(since) >= idle)
            {
                using FileLock start = await FileLock.AcquireAsync(server.StartLockPath, cancellation);
                if (await LookAsync(server, connection, cancellation) == seen)
                {
                    return await server.StopLockedAsync(cancellation);
                }
            }
        }
    }

    internal static async Task<Activity> LookAsync(
        PrivateServer server, NpgsqlConnection connection, CancellationToken cancellation)
    {
        await using NpgsqlCommand command = new(SqlText.Named("count-clients"), connection);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellation);
        await reader.ReadAsync(cancellation);
        return new Activity(reader.GetInt64(0), reader.GetInt64(1), File.GetLastWriteTimeUtc(server.UsedPath));
    }

    internal static TimeSpan ParseIdle(string text)
    {
        (string Suffix, double Seconds)[] units = [("min", 60), ("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("", 1)];
        foreach ((string suffix, double seconds) in units)
        {
            if (text.EndsWith(suffix, StringComparison.Ordinal) && double.TryParse(
                text.AsSpan(0, text.Length - suffix.Length), NumberStyles.Float, CultureInfo.InvariantCulture, out double count)
                && count > 0 && count * seconds < 1e7)
            {
                return TimeSpan.FromSeconds(count * seconds);
            }
        }

        throw new ArgumentException(
            $"EXPERIMENTS_POSTGRES_IDLE is '{text}'; a time such as 30s, 15min or 2h is needed.");
    }

    private static Signals LeaveTerminal()
    {
        if (OperatingSystem.IsWindows())
        {
            return new Signals([]);
        }

        BackgroundProcess.LeaveGroup();
        Directory.SetCurrentDirectory("/");
        return new Signals(
        [
            PosixSignalRegistration.Create(PosixSignal.SIGINT, context => context.Cancel = true),
            PosixSignalRegistration.Create(PosixSignal.SIGHUP, context => context.Cancel = true),
            PosixSignalRegistration.Create(PosixSignal.SIGQUIT, context => context.Cancel = true),
        ]);
    }

    internal readonly record struct Activity(long Clients, long Sessions, DateTime Used);

    private sealed class Signals(IReadOnlyList<PosixSignalRegistration> registrations) : IDisposable
    {
        public void Dispose()
        {
            foreach (PosixSignalRegistration registration in registrations)
            {
                registration.Dispose();
            }
        }
    }
}
