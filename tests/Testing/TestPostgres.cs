using System.Diagnostics;
using System.Globalization;
using Experiments.Results.Migrations;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;
using Npgsql;

namespace Experiments.Testing;

/// <summary>A real Postgres for a test program, started by the same code as users' private ones, in a folder of its own under
/// the system's temporary one.</summary>
/// <remarks>One a process, started by the first test that asks. A watcher holds the end of a pipe whose other end is ours: when
/// this process ends, however it ends, the watcher stops the server and deletes the folder.</remarks>
public sealed class TestPostgres
{
    private const string Template = "experiments_template";
    private static readonly Lazy<Task<TestPostgres>> Shared = new(() => StartAsync(NewFolder(), new Dictionary<string, string>()));
    private static readonly SemaphoreSlim Copying = new(1);
    private static int _databases;

    private readonly PrivateServer _server;
    private readonly StoreAddress _template;

    private TestPostgres(PrivateServer server, StoreAddress template)
    {
        _server = server;
        _template = template;
    }

    public PrivateServer Server => _server;

    /// <summary>The server of this process, started once.</summary>
    public static Task<TestPostgres> SharedAsync() => Shared.Value;

    /// <summary>One that no other test looks at, to be killed and hindered.</summary>
    /// <param name="folder">Empty or not there; null: one under the system's temporary folder. It is deleted when this process ends.</param>
    /// <param name="settings">Server settings beside the tests' own, or instead of them.</param>
    public static Task<TestPostgres> StartOwnAsync(string? folder = null, IReadOnlyDictionary<string, string>? settings = null) =>
        StartAsync(folder ?? NewFolder(), settings ?? new Dictionary<string, string>());

    /// <summary>A fresh, migrated, empty store.</summary>
    public static async Task<StoreAddress> CreateDatabaseAsync()
    {
        TestPostgres postgres = await SharedAsync();
        return await postgres.CreateStoreAsync();
    }

    /// <summary>Ends the server as a crash does: no checkpoint, no farewell to its clients. <see cref="PrivateServer.EnsureRunningAsync"/> of
    /// <see cref="Server"/> starts it again.</summary>
    public async Task CrashAsync()
    {
        int id = (await _server.StatusAsync(CancellationToken.None)).ProcessId ?? throw new InvalidOperationException("The test server does not run.");
        using (Process kill = Process.Start("/bin/kill", ["-s", "QUIT", id.ToString(CultureInfo.InvariantCulture)]))
        {
            await kill.WaitForExitAsync();
        }

        while (Child.Runs(id))
        {
            await Task.Delay(5);
        }
    }

    /// <summary>A fresh database without our schema; the owner's connection string.</summary>
    public async Task<string> CreateEmptyDatabaseAsync()
    {
        string name = NextName();
        await ExecuteAsync($"CREATE DATABASE {name}");
        return _server.ConnectionString(PrivateServer.OwnerName, name);
    }

    /// <summary>A server of its own that listens on a loopback address and asks for passwords; the connection string of an owner who
    /// may make roles and nothing else beyond its database.</summary>
    /// <returns>The owner's connection string, and the superuser's, by socket and without a password, for looking.</returns>
    public static async Task<(string Owner, string Superuser)> StartWithPasswordsAsync(string password)
    {
        // Each of many test programs at once has an address of its own, since the port is always the same.
        int id = Environment.ProcessId;
        string host = OperatingSystem.IsLinux()
            ? string.Create(CultureInfo.InvariantCulture, $"127.{64 + (id >> 16 & 63)}.{id >> 8 & 255}.{1 + (id & 255) % 254}") : "127.0.0.1";
        string folder = NewFolder();
        PrivateServer server = new(new PrivateServerOptions(folder, KeeperCommand: null, new Dictionary<string, string>
        {
            ["fsync"] = "off",
            ["shared_buffers"] = "16MB",
            ["listen_addresses"] = host,
            ["password_encryption"] = "scram-sha-256",
        }));
        Watch(folder);
        await server.EnsureRunningAsync(_ => { }, CancellationToken.None);
        await File.WriteAllTextAsync(
            Path.Combine(folder, "data", "pg_hba.conf"), "local all all trust\nhost all all 127.0.0.0/8 scram-sha-256\n");
        string superuser = server.ConnectionString(PrivateServer.OwnerName, "postgres") + ";Pooling=false";
        await using NpgsqlConnection connection = new(superuser);
        await connection.OpenAsync();
        foreach (string sql in (string[])
            [$"CREATE ROLE plain LOGIN CREATEROLE PASSWORD '{password}'", "CREATE DATABASE theirs OWNER plain", "SELECT pg_reload_conf()"])
        {
            await using NpgsqlCommand command = new(sql, connection);
            await command.ExecuteNonQueryAsync();
        }

        NpgsqlConnectionStringBuilder owner = new()
        {
            Host = host, Database = "theirs", Username = "plain", Password = password, Pooling = false,
        };
        await UntilPasswordsAreAskedForAsync(owner.ConnectionString);
        return (owner.ConnectionString, new NpgsqlConnectionStringBuilder(superuser) { Database = "theirs" }.ConnectionString);
    }

    /// <summary>Lets in whoever comes from a network, by TCP; the server must listen there.</summary>
    /// <returns>The owner's connection string from there.</returns>
    public async Task<string> LetInAsync(string range, string host, StoreAddress store)
    {
        await File.AppendAllTextAsync(Path.Combine(_server.Folder, "data", "pg_hba.conf"), $"host all all {range} trust\n");
        await ExecuteAsync("SELECT pg_reload_conf()");
        return new NpgsqlConnectionStringBuilder(store.Owner) { Host = host, SslMode = SslMode.Disable }.ConnectionString;
    }

    /// <summary>Runs a statement as the superuser, in a database of the server's or of the one named.</summary>
    public async Task ExecuteAsync(string sql, string database = "postgres")
    {
        await using NpgsqlConnection connection = new(_server.ConnectionString(PrivateServer.OwnerName, database) + ";Pooling=false");
        await connection.OpenAsync();
        await using NpgsqlCommand command = new(sql, connection);
        await command.ExecuteNonQueryAsync();
    }

    private static string NextName() =>
        string.Create(CultureInfo.InvariantCulture, $"test_{Interlocked.Increment(ref _databases)}");

    /// <summary>A fresh, migrated, empty store on this server.</summary>
    public async Task<StoreAddress> CreateStoreAsync()
    {
        string name = NextName();
        // Two copies of one template at once are refused.
        await Copying.WaitAsync();
        try
        {
            await ExecuteAsync($"CREATE DATABASE {name} TEMPLATE {Template}");
        }
        finally
        {
            Copying.Release();
        }

        // A database's own settings and rights are not copied with it.
        await ExecuteAsync($"""
            ALTER DATABASE {name} SET search_path = experiments, public;
            REVOKE TEMPORARY, CREATE ON DATABASE {name} FROM PUBLIC;
            """);
        return new StoreAddress(In(_template.Owner, name), In(_template.Writer, name), In(_template.Reader, name), _server.Folder);
    }

    private static string In(string connectionString, string database) =>
        new NpgsqlConnectionStringBuilder(connectionString) { Database = database, MaxPoolSize = 20, Enlist = false }.ConnectionString;

    private static string NewFolder() => Path.Combine(
        OperatingSystem.IsWindows() ? Path.GetTempPath() : "/tmp",
        string.Create(CultureInfo.InvariantCulture, $"experiments-test-{Environment.ProcessId}-{Guid.NewGuid().ToString("N")[..6]}"));

    // A reload is done when the server gets to it: a wrong password is refused as one from then on.
    private static async Task UntilPasswordsAreAskedForAsync(string owner)
    {
        string wrong = new NpgsqlConnectionStringBuilder(owner) { Password = "wrong" }.ConnectionString;
        for (int tries = 0; tries < 200; tries++)
        {
            try
            {
                await using NpgsqlConnection connection = new(wrong);
                await connection.OpenAsync();
            }
            catch (PostgresException refused) when (refused.SqlState == PostgresErrorCodes.InvalidPassword)
            {
                return;
            }
            catch (PostgresException unknown) when (unknown.SqlState == PostgresErrorCodes.InvalidAuthorizationSpecification)
            {
                // The rules of before know no such address.
                Debug.WriteLine(unknown.MessageText);
            }

            await Task.Delay(50);
        }

        throw new InvalidOperationException("The test server does not ask for passwords.");
    }

    private static async Task<TestPostgres> StartAsync(string folder, IReadOnlyDictionary<string, string> more)
    {
        Dictionary<string, string> settings = new()
        {
            // Tests kill processes, not machines: what the kernel has is safe.
            ["fsync"] = "off",
            ["shared_buffers"] = "64MB",
            ["log_min_error_statement"] = "panic",
        };
        foreach ((string name, string value) in more)
        {
            settings[name] = value;
        }

        PrivateServer server = new(new PrivateServerOptions(folder, KeeperCommand: null, settings));
        Watch(folder);
        string owner = await server.EnsureRunningAsync(_ => { }, CancellationToken.None);
        NpgsqlConnectionStringBuilder template = new(owner) { Database = Template, Pooling = false };
        await using (NpgsqlConnection connection = new(new NpgsqlConnectionStringBuilder(owner) { Pooling = false }.ConnectionString))
        {
            await connection.OpenAsync();
            await using NpgsqlCommand command = new($"CREATE DATABASE {Template}", connection);
            await command.ExecuteNonQueryAsync();
        }

        StoreAddress address = await Migrator.MigrateAsync(
            template.ConnectionString, folder, ("experiments_test_writer", "experiments_test_reader"), _ => { }, CancellationToken.None);
        return new TestPostgres(server, With(address));
    }

    private static StoreAddress With(StoreAddress address) => new(Pooled(address.Owner), Pooled(address.Writer), Pooled(address.Reader), address.PrivateFolder);

    private static string Pooled(string text) => new NpgsqlConnectionStringBuilder(text) { Pooling = true }.ConnectionString;

    /// <summary>A shell that waits for our end of its pipe to close, which the kernel does for us, and then cleans up.</summary>
    private static void Watch(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            AppDomain.CurrentDomain.ProcessExit += (_, _) =>
                new PrivateServer(new PrivateServerOptions(folder, null)).StopAsync(CancellationToken.None).GetAwaiter().GetResult();
            return;
        }

        const string Script = """
            trap '' INT HUP TERM
            read -r _
            tries=0
            while [ $tries -lt 100 ]; do
                pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
                if [ -n "$pid" ]; then kill -QUIT "$pid" 2>/dev/null || break; fi
                [ -z "$pid" ] && [ $tries -gt 10 ] && break
                tries=$((tries + 1))
                sleep 0.05
            done
            rm -rf "$1"
            """;
        ProcessStartInfo start = new("/bin/sh", ["-c", $"exec >/dev/null 2>&1\n{Script}", "experiments-test-watcher", folder])
        {
            RedirectStandardInput = true,
            WorkingDirectory = "/",
        };
        if (File.Exists("/usr/bin/setsid"))
        {
            start.FileName = "/usr/bin/setsid";
            start.ArgumentList.Insert(0, "/bin/sh");
        }

        // Kept for the life of the process: a collected Process would close the pipe.
        Watchers.Add(Process.Start(start) ?? throw new InvalidOperationException("No shell could be started to watch the test server."));
    }

    private static readonly List<Process> Watchers = [];
}
