using Experiments.Results.Migrations;
using Experiments.Results.Store;
using Npgsql;

namespace Experiments.Results.PrivatePostgres;

/// <summary>Where results go: the server that was named, or this user's own.</summary>
public static class StoreLocator
{
    private const string Example = "One looks like `Host=db.example.org;Database=experiments;Username=me`, with a Password where the "
        + "server asks for one.";

    /// <summary>Finds the store, starts it if it is the private one, and migrates it.</summary>
    /// <param name="connectionString">EXPERIMENTS_POSTGRES, or null for the private server.</param>
    /// <param name="notice">Gets what takes long, or could not be done, a sentence each.</param>
    /// <exception cref="StoreUnavailableException">It could not be reached, started or migrated.</exception>
    public static async Task<StoreAddress> ResolveAsync(
        string? connectionString, Action<string> notice, CancellationToken cancellation)
    {
        if (!string.IsNullOrWhiteSpace(connectionString))
        {
            return await Migrator.MigrateAsync(Read(connectionString), null, notice, cancellation);
        }

        PrivateServer server = Private();
        string owner = await server.EnsureRunningAsync(notice, cancellation);
        return await Migrator.MigrateAsync(owner, server.Folder, notice, cancellation);
    }

    /// <summary>The store, to read from, if it is up and of this build's schema; it is neither started nor migrated. Else null.</summary>
    public static async Task<ResultStore?> PeekAsync(string? connectionString, CancellationToken cancellation)
    {
        try
        {
            string owner;
            if (string.IsNullOrWhiteSpace(connectionString))
            {
                PrivateServer server = Private();
                if (!(await server.StatusAsync(cancellation)).Running)
                {
                    return null;
                }

                owner = server.ConnectionString(PrivateServer.OwnerName, PrivateServer.DatabaseName);
            }
            else
            {
                // Nobody waits a quarter of a minute for a figure that is only good to know.
                owner = new NpgsqlConnectionStringBuilder(Read(connectionString)) { Timeout = 2 }.ConnectionString;
            }

            return await Migrator.FindAsync(owner, cancellation) is StoreAddress address
                ? await ResultStore.OpenReaderAsync(address, cancellation) : null;
        }
        catch (Exception fault) when (fault is StoreUnavailableException or NpgsqlException)
        {
            return null;
        }
    }

    /// <summary>The private server of this user, running or not.</summary>
    public static PrivateServer Private() =>
        new(new PrivateServerOptions(PrivateServer.DefaultFolder(), PostgresKeeper.CommandLine()));

    private static string Read(string connectionString)
    {
        NpgsqlConnectionStringBuilder settings;
        try
        {
            settings = new NpgsqlConnectionStringBuilder(connectionString);
        }
        catch (Exception fault) when (fault is ArgumentException or FormatException or KeyNotFoundException)
        {
            // The parser's own words may quote what it was given, password and all.
            bool isUri = connectionString.TrimStart().StartsWith("postgres", StringComparison.OrdinalIgnoreCase)
                && connectionString.Contains("://", StringComparison.Ordinal);
            throw new StoreUnavailableException($"EXPERIMENTS_POSTGRES (or --postgres) is "
                + (isUri ? "a postgres:// address, and an Npgsql connection string is needed" : "not an Npgsql connection string")
                + $". {Example}", fault);
        }

        if (string.IsNullOrEmpty(settings.Host))
        {
            throw new StoreUnavailableException(
                $"EXPERIMENTS_POSTGRES (or --postgres) names no Host. {Example}");
        }

        settings.SearchPath ??= "experiments, public";
        settings.ApplicationName ??= "experiments";
        return settings.ConnectionString;
    }
}
