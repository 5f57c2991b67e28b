using Garnet;

namespace Experiments.Silo.OneMachine;

/// <summary>The membership's Redis of a cluster on one machine: Garnet, in a process of its own, on loopback, with a password.</summary>
public static class EmbeddedRedis
{
    /// <summary>Serves until it is cancelled. Every write is on disk before it is answered, so that a restart finds the members.</summary>
    /// <param name="folder">Where it keeps them.</param>
    /// <param name="port">TCP port on 127.0.0.1, from 1 to 65535.</param>
    /// <param name="password">Of the default user, which every client has to give.</param>
    /// <exception cref="ClusterSiloException">The port is taken, or the folder cannot be used.</exception>
    public static async Task RunAsync(string folder, int port, string password, CancellationToken cancellation)
    {
        Directory.CreateDirectory(folder);
        GarnetServer server;
        try
        {
            server = new GarnetServer(
            [
                "--bind", "127.0.0.1", "--port", $"{port}", "--auth", "Password", "--password", password,
                "--aof", "--aof-commit-freq", "0", "--recover", "--checkpointdir", folder,
                // Orleans changes the membership by scripts, each of which has to be one transaction.
                "--lua", "--lua-transaction-mode",
                // Through .NET's own files: the native way wants a libaio that Debian 12 has not.
                "--device-type", "RandomAccess",
                // A membership table has a row a silo; the defaults reserve gigabytes.
                "--memory", "32m", "--page", "1m", "--segment", "32m", "--index", "1m", "--aof-memory", "16m", "--aof-page-size", "4m",
            ]);
            server.Start();
        }
        catch (Exception fault) when (fault is not OutOfMemoryException)
        {
            // Garnet throws what it likes: a socket's fault, an Exception, its own.
            throw new ClusterSiloException($"The cluster's Redis cannot be served on 127.0.0.1:{port} from {folder}: {fault.Message}", fault);
        }

        using (server)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }
}
