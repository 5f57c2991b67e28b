using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Experiments.Grains.Tests.Security;

/// <summary>A redis-server of one test's own, on loopback, keeping nothing.</summary>
internal sealed class RedisServer : IDisposable
{
    private readonly Process _process;

    private RedisServer(Process process, int port) => (_process, Port) = (process, port);

    public int Port { get; }

    /// <summary>The server, or null where none is installed.</summary>
    public static async Task<RedisServer?> StartAsync()
    {
        string? binary = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
            .Select(folder => Path.Combine(folder, "redis-server")).FirstOrDefault(File.Exists);
        if (binary is null)
        {
            return null;
        }

        int port = Ports.Free();
        Process process = Process.Start(new ProcessStartInfo(binary, ["--port", $"{port}", "--bind", "127.0.0.1", "--save", ""])
        {
            RedirectStandardOutput = true,
        })!;
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(30));
        while (await process.StandardOutput.ReadLineAsync(limit.Token) is string line)
        {
            if (line.Contains("Ready to accept connections", StringComparison.Ordinal))
            {
                return new RedisServer(process, port);
            }
        }

        throw new InvalidOperationException("redis-server ended before it was ready.");
    }

    public void Dispose()
    {
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }
}

internal static class Ports
{
    public static int Free()
    {
        using TcpListener probe = new(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}
