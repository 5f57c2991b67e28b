using System.Diagnostics;
using System.IO.Compression;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Security.Cryptography;
using System.Text;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;

namespace Experiments.Results.Tests.Store;

/// <summary>Fetching a server, from a repository on this machine that holds an archive of three small scripts.</summary>
public sealed class FetchedServerTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("experiments-test-fetch-").FullName;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task A_fetched_server_is_found_by_the_next_command()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return; // The archive's name says the platform; one is enough.
        }

        byte[] jar = await JarAsync();
        using Repository repository = new(path =>
            path.EndsWith("/maven-metadata.xml", StringComparison.Ordinal)
                ? "<metadata><versioning><versions><version>16.9.0</version><version>17.6.0</version></versions></versioning></metadata>"u8.ToArray()
            : path.EndsWith("17.6.0.jar", StringComparison.Ordinal) ? jar
            : path.EndsWith("17.6.0.jar.sha256", StringComparison.Ordinal) ? Encoding.ASCII.GetBytes(Convert.ToHexStringLower(SHA256.HashData(jar)))
            : null);
        List<string> notices = [];
        string binaries = Path.Combine(_folder, "binaries");
        PostgresBinaries fetched = await PostgresBinaries.FetchAsync(null, binaries, notices.Add, Cancellation, repository.Address);
        Assert.Equal(17, fetched.Major);
        Assert.Contains("once", Assert.Single(notices), StringComparison.Ordinal);
        PostgresBinaries? found = await PostgresBinaries.FindAsync(17, binaries, Cancellation);
        Assert.Equal(fetched, found);
    }

    [Fact]
    public async Task Where_nothing_can_be_fetched_one_message_names_every_way_out()
    {
        using TcpListener closed = new(IPAddress.Loopback, 0);
        closed.Start();
        string nobody = $"http://127.0.0.1:{((IPEndPoint)closed.LocalEndpoint).Port}";
        closed.Stop();
        StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => PostgresBinaries.FetchAsync(null, Path.Combine(_folder, "binaries"), _ => { }, Cancellation, nobody));
        foreach (string way in (string[])["apt install postgresql", "dnf install postgresql-server", "brew install", "winget install",
            "EXPERIMENTS_POSTGRES_BIN", "EXPERIMENTS_POSTGRES "])
        {
            Assert.Contains(way, fault.Message, StringComparison.Ordinal);
        }
    }

    /// <summary>As zonky's: a zip that holds a compressed tar with bin, lib and share.</summary>
    [SupportedOSPlatform("linux")]
    private async Task<byte[]> JarAsync()
    {
        string tree = Path.Combine(_folder, "tree");
        Directory.CreateDirectory(Path.Combine(tree, "bin"));
        foreach (string program in (string[])["postgres", "initdb", "pg_ctl"])
        {
            string path = Path.Combine(tree, "bin", program);
            await File.WriteAllTextAsync(path, $"#!/bin/sh\necho '{program} (PostgreSQL) 17.6'\n", Cancellation);
            File.SetUnixFileMode(path, (UnixFileMode)0x1ED);
        }

        string archive = Path.Combine(_folder, "postgres-linux-x86_64.txz");
        using (Process tar = Process.Start("tar", ["-cJf", archive, "-C", tree, "."]))
        {
            await tar.WaitForExitAsync(Cancellation);
            Assert.Equal(0, tar.ExitCode);
        }

        using MemoryStream jar = new();
        using (ZipArchive zip = new(jar, ZipArchiveMode.Create))
        {
            await zip.CreateEntryFromFileAsync(archive, "postgres-linux-x86_64.txz", Cancellation);
        }

        return jar.ToArray();
    }

    /// <summary>Answers GET with what a function finds, one connection at a time.</summary>
    private sealed class Repository : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly Func<string, byte[]?> _find;

        public Repository(Func<string, byte[]?> find)
        {
            _find = find;
            _listener.Start();
            _ = ServeAsync();
        }

        public string Address => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

        public void Dispose() => _listener.Dispose();

        private async Task ServeAsync()
        {
            try
            {
                while (true)
                {
                    using TcpClient client = await _listener.AcceptTcpClientAsync();
                    NetworkStream stream = client.GetStream();
                    using StreamReader reader = new(stream, Encoding.ASCII);
                    string path = (await reader.ReadLineAsync())!.Split(' ')[1];
                    while (await reader.ReadLineAsync() is { Length: > 0 })
                    {
                        // Headers say nothing that matters here.
                    }

                    byte[]? body = _find(path);
                    string head = $"HTTP/1.1 {(body is null ? "404 Not Found" : "200 OK")}\r\nContent-Length: {body?.Length ?? 0}\r\nConnection: close\r\n\r\n";
                    await stream.WriteAsync(Encoding.ASCII.GetBytes(head));
                    await stream.WriteAsync(body ?? []);
                }
            }
            catch (Exception end) when (end is ObjectDisposedException or SocketException or IOException)
            {
                // The test is over.
            }
        }
    }
}
