using Experiments.Results.Migrations;
using Experiments.Results.Store;
using Npgsql;

namespace Experiments.Results.PrivatePostgres;

/// <summary>Where results go: the server that was named, or this user's own.</summary>
public static class StoreLocator
{
    /// <summary>Finds the store, starts it if it is the private one, and migrates it.</summary>
    /// <param name="connectionString">EXPERIMENTS_POSTGRES, or null for the private server.</param>
    /// <param name="notice">Gets what takes long, or could not be done, a sentence each.</param>
    /// <exception cref="ArgumentException">It is no connection string.</exception>
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
    /// <exception cref="ArgumentException">It is no connection string.</exception>
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
        NpgsqlConnectionStringBuilder settings = ConnectionText.Read(connectionString, "EXPERIMENTS_POSTGRES (or --postgres)");
        settings.SearchPath ??= "experiments, public";
        settings.ApplicationName ??= "experiments";
        return settings.ConnectionString;
    }
}
