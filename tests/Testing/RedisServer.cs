using System.Globalization;

namespace Experiments.Testing;

/// <summary>A redis-server of one test's own, on loopback, which ends with the test program however that ends.</summary>
public sealed class RedisServer : IAsyncDisposable
{
    private readonly Child _process;

    private RedisServer(Child process, int port) => (_process, Port) = (process, port);

    /// <summary>Why there can be none on this machine; null where there can.</summary>
    public static string? Unavailable => Binary is null ? "no redis-server on the PATH" : null;

    public int Port { get; }

    private static string? Binary => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Select(folder => Path.Combine(folder, "redis-server")).FirstOrDefault(File.Exists);

    /// <param name="folder">Where it keeps every write; null: it keeps nothing.</param>
    /// <param name="at">Its port, as of one that was killed; null for a free one.</param>
    /// <param name="address">Where it listens, to whoever comes.</param>
    public static async Task<RedisServer> StartAsync(string? folder = null, int? at = null, string address = "127.0.0.1")
    {
        int port = at ?? Ports.Free();
        string[] keeps = folder is null ? [] : ["--dir", folder, "--appendonly", "yes"];
        Child process = await Child.StartAsync(
            new Dictionary<string, string?>(),
            [Binary ?? throw new InvalidOperationException(Unavailable), "--bind", address, "--protected-mode", "no", "--port", port.ToString(CultureInfo.InvariantCulture), "--save", "", .. keeps]);
        await process.SaysAsync("Ready to accept connections", TimeSpan.FromSeconds(30));
        return new RedisServer(process, port);
    }

    public ValueTask DisposeAsync() => _process.DisposeAsync();
}
