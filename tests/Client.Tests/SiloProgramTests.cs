using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;
using Experiments.Results.Store;
using Experiments.Silo.Hosting;
using Experiments.Testing;
using Npgsql;
using StackExchange.Redis;

namespace Experiments.Client.Tests;

/// <summary>The silo's own program is what <c>experiments silo</c> is: its settings, its words, its end.</summary>
[Collection("silo")]
public sealed class SiloProgramTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private static readonly string PoisonFolder = Path.Combine(
        ReadmeTests.Root, "tests", "Plugins.Poison", "bin",
        Path.GetFileName(Path.GetDirectoryName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar))!), "net10.0");

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Its_help_has_every_option_of_the_verb_and_examples_that_parse()
    {
        string help = (await ProgramAsync([], "--help")).Expect(ExitCode.Done).Out;
        Command verb = CommandTree.Build(new Terminals.Terminal { Out = TextWriter.Null, Error = TextWriter.Null }).Subcommands.Single(c => c.Name == "silo");
        Assert.True(verb.Options.Count > 10);
        Assert.All(verb.Options.Append(GlobalOptions.Postgres).Append(GlobalOptions.Verbose), o => Assert.Contains($" {o.Name} ", help, StringComparison.Ordinal));
        Assert.DoesNotContain("isolated", help, StringComparison.Ordinal);
        Assert.DoesNotContain("[command]", help, StringComparison.Ordinal);
        Assert.Contains("Exit codes:", help, StringComparison.Ordinal);
        string[] examples = [.. help.Split('\n').Select(l => l.Trim()).Where(l => l.StartsWith("experiments-silo --", StringComparison.Ordinal))];
        Assert.Equal(2, examples.Length);
        Assert.All(examples, e => Assert.Empty(Build([]).Parse([.. CommandLineParser.SplitCommandLine(e).Skip(1)], CommandLineProgram.Parsing).Errors));
    }

    public static TheoryData<string, string?, string> Faults => new()
    {
        { "", null, "none is named" },
        { "--redis 127.0.0.1:1 --bnid 10.0.0.5", null, "has no option '--bnid'. Did you mean '--bind'?" },
        { "somewhere", null, "has no use for 'somewhere'" },
        { "isolatd", null, "has no use for 'isolatd'" },
        { "--port 70000", null, "--port is '70000'; a whole number from 0 to 65535 is needed." },
        { "--redis 127.0.0.1:1 --bind here", null, "--bind is 'here'" },
        { "--redis 127.0.0.1:1 --bind 10", null, "--bind is '10'; a whole IP address" },
        { "--redis 127.0.0.1:1 --bind 010.0.0.5", null, "--bind is '010.0.0.5'" },
        { "--redis 127.0.0.1:1 --health 8080", null, "--health is '8080'" },
        { "--redis 127.0.0.1:1 --health 127.1:8080", null, "--health is '127.1:8080'; a whole IP address" },
        { "--redis redis-1,10:6379,password=secret --port 0", "postgres: Host=/nonexistent\n", "has the host '10', which is no whole address" },
        { "--redis 127.0.0.1:1 --port 0", "postgres: Host=10.1\n", "has Host '10.1', which is no whole address" },
        { "--redis 127.0.0.1:1 --port 0", "postgres: Host=db:x\n", "has a Host with the port 'x'" },
        { "--redis 127.0.0.1:1 --port 0", "postgres: Host=db:5432,127.0.0.1:65536\n", "has a Host with the port '65536'" },
        { "--redis 127.0.0.1:1 --bind 0.0.0.0", null, "--bind is '0.0.0.0', which is every address" },
        { "--redis 127.0.0.1:1 --bind ::", null, "--bind is '::', which is every address" },
        { "--redis 127.0.0.1:1 --tls-key node.key", null, "go together" },
        { "--redis 127.0.0.1:1 --plugins /nowhere/at/all", null, "/nowhere/at/all" },
        { "", "redis: 127.0.0.1:1\nsilo_drain: -1\n", "from 0 to 3600" },
        { "", "rediss: 127.0.0.1:1\n", "Did you mean 'redis'?" },
        { "--bind 10.0.0.5 --redis 127.0.0.1:1", "postgres: Host=/nonexistent\n", "10.0.0.5" },
    };

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task What_is_wrong_gets_the_verbs_words_and_exit_code(string words, string? file, string needed)
    {
        Dictionary<string, string?> environment = file is null ? [] : new() { ["EXPERIMENTS_CONFIG"] = _folder.Write("config.yaml", file) };
        string[] typed = words.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        Ran program = await ProgramAsync(environment, typed);
        string error = program.ExpectRefusal(ExitCode.Invalid, 2);
        Assert.Contains(needed, error, StringComparison.Ordinal);
        Ran verb = await Cli.RunAsync(environment, ["silo", .. typed]);
        Assert.Equal(verb.Error.Replace("experiments silo", "experiments-silo", StringComparison.Ordinal), program.Error);
    }

    [Fact]
    public async Task Health_that_cannot_be_served_is_told_before_the_cluster_is_joined()
    {
        using TcpListener taken = new(IPAddress.Loopback, 0);
        taken.Start();
        int port = ((IPEndPoint)taken.LocalEndpoint).Port;
        Dictionary<string, string?> environment = new() { ["EXPERIMENTS_CONFIG"] = _folder.Write("config.yaml", "postgres: Host=/nonexistent\n") };

        // No Redis is there: nothing of the cluster has been looked for.
        Ran ran = await ProgramAsync(environment, "--redis", "127.0.0.1:1", "--port", "0", "--health", $"127.0.0.1:{port}");
        Assert.Contains($"Health cannot be served at 127.0.0.1:{port}: the port is taken.", ran.ExpectRefusal(ExitCode.Invalid, 2), StringComparison.Ordinal);
        taken.Stop();
        ran = await ProgramAsync(environment, "--redis", "127.0.0.1:1", "--port", $"{port}", "--health", $"127.0.0.1:{port}");
        Assert.Contains("it is the silo's own port", ran.ExpectRefusal(ExitCode.Invalid, 2), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_settings_file_that_is_named_must_exist()
    {
        Dictionary<string, string?> environment = new() { ["EXPERIMENTS_CONFIG"] = _folder.File("none.yaml") };
        Assert.Contains("none.yaml", (await ProgramAsync(environment)).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_Redis_that_is_away_is_told_in_a_line_with_an_exit_code_of_its_own()
    {
        StoreAddress store = await TestPostgres.CreateDatabaseAsync();
        Dictionary<string, string?> environment = new() { ["EXPERIMENTS_POSTGRES"] = store.Owner };
        string[] words = ["--redis", string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{Ports.Free()}"), "--port", "0"];
        string error = (await ProgramAsync(environment, words)).ExpectRefusal(ExitCode.StoreUnreachable, 1);
        Assert.Contains("does not answer", error, StringComparison.Ordinal);
        Assert.Equal(error, (await Cli.RunAsync(environment, ["silo", .. words])).ExpectRefusal(ExitCode.StoreUnreachable, 1));
    }

    /// <summary>The file says four things, the environment three of them, the command line two of those.</summary>
    [Fact]
    public async Task What_is_typed_comes_before_the_environment_and_that_before_the_file_and_a_submitted_sweep_gets_done()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        await using RedisServer redis = await RedisServer.StartAsync();
        StoreAddress store = await TestPostgres.CreateDatabaseAsync();
        Dictionary<string, string?> environment = new()
        {
            ["EXPERIMENTS_CONFIG"] = _folder.Write("config.yaml", $"""
                postgres: '{store.Owner}'
                redis: 127.0.0.1:{redis.Port}
                silo_port: 0
                silo_drain: 7
                silo_name: file
                silo_cluster: file
                """),
            ["EXPERIMENTS_SILO_NAME"] = "environment",
            ["EXPERIMENTS_SILO_CLUSTER"] = "environment",
        };
        await using Child silo = await StartAsync(environment, "--cluster", "typed");
        await silo.SaysAsync("Silo of cluster 'typed' on 127.0.0.1:", Patience);
        (await Cli.RunAsync(environment, "submit", _folder.Write("tiny.yaml", StoredSweep.Tiny))).Expect(ExitCode.Done);
        await DoneAsync(store, silo);
        JsonNode nodes = await QueryAsync(environment, "select n.name, count(*) as trials from trials t join experiments.node n on n.id = t.node_id group by 1");
        Assert.Equal(("environment", 24), ((string)nodes.AsArray().Single()!["name"]!, (int)nodes[0]!["trials"]!));

        // Of the client nothing is in the process, nor what only the client needs.
        if (OperatingSystem.IsLinux())
        {
            string maps = await File.ReadAllTextAsync($"/proc/{silo.Id}/maps", TestContext.Current.CancellationToken);
            Assert.Contains("/experiments-silo.dll", maps, StringComparison.Ordinal);
            Assert.DoesNotMatch("/(experiments|Spectre.*|Parquet|CsvHelper)\\.dll", maps);
        }

        silo.Signal("TERM");
        Assert.Equal(0, await silo.EndAsync(TimeSpan.FromSeconds(40)));
        Assert.Contains("Draining for up to 7 s", silo.Said, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Silos_of_both_programs_form_one_cluster()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        await using RedisServer redis = await RedisServer.StartAsync();
        StoreAddress store = await TestPostgres.CreateDatabaseAsync();
        Dictionary<string, string?> environment = new()
        {
            ["EXPERIMENTS_POSTGRES"] = store.Owner,
            ["EXPERIMENTS_REDIS"] = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{redis.Port}"),
            ["EXPERIMENTS_SILO_PORT"] = "0",
        };
        await using Child silo = await StartAsync(environment);
        using ClientProcess verb = ClientProcess.Start(environment, "silo");
        await silo.SaysAsync("Silo of cluster", Patience);
        await verb.SaysAsync("Silo of cluster");

        // Each cluster has a table of members, with a row for its version.
        await using ConnectionMultiplexer membership = await ConnectionMultiplexer.ConnectAsync(environment["EXPERIMENTS_REDIS"]!);
        RedisKey table = Assert.Single(membership.GetServers().Single().Keys(pattern: "*/members/*"));
        Assert.Equal(2 + 1, await membership.GetDatabase().HashLengthAsync(table));
    }

    [Fact]
    public async Task A_shard_that_has_killed_silos_is_computed_by_the_program_itself_in_a_process_of_its_own()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        await using RedisServer redis = await RedisServer.StartAsync();
        StoreAddress store = await TestPostgres.CreateDatabaseAsync();
        Dictionary<string, string?> environment = new()
        {
            ["EXPERIMENTS_POSTGRES"] = store.Owner,
            ["EXPERIMENTS_REDIS"] = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{redis.Port}"),
            ["EXPERIMENTS_PLUGINS"] = PoisonFolder,
            ["DOTNET_DbgEnableMiniDump"] = "0",
        };
        (await Cli.RunAsync(environment, "submit", _folder.Write("poisoned.yaml", """
            name: poisoned
            seed: 5
            instances: {family: uniform, n: 48, d: 4, bound: 1}
            kernels:
              - {kernel: exact, precision: float64}
              - {kernel: poison, how: abort, precision: float64}
            measure: {rounds: 2, min_time: 0, max_noise: 0}
            limits: {retries: 1}
            """))).Expect(ExitCode.Done);
        await using (NpgsqlDataSource owner = NpgsqlDataSource.Create(store.Owner))
        {
            await using NpgsqlCommand died = owner.CreateCommand("UPDATE experiments.shard SET dead_nodes = '{998, 999}'");
            Assert.True(await died.ExecuteNonQueryAsync(TestContext.Current.CancellationToken) > 0);
        }

        await using Child silo = await StartAsync(environment, "--port", "0");
        await DoneAsync(store, silo);
        JsonNode rows = await QueryAsync(environment, "select kernel, status, reason from trials order by kernel");
        Assert.Equal(["exact: done", "poison: failed"], rows.AsArray().Select(r => $"{r!["kernel"]}: {r["status"]}"));
        Assert.Contains("killed its process (signal 6 (SIGABRT)) 2 times of 2", (string)rows[1]!["reason"]!, StringComparison.Ordinal);
        silo.Signal("TERM");
        Assert.Equal(0, await silo.EndAsync(TimeSpan.FromSeconds(40)));
    }

    [Fact]
    public async Task With_no_store_named_it_starts_the_private_one_and_the_keeper_is_the_program_itself()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        Assert.SkipUnless(OperatingSystem.IsLinux(), "/proc tells what processes there are.");
        if (!OperatingSystem.IsWindows())
        {
            // As root the server runs as another user, who must get into the folder.
            File.SetUnixFileMode(_folder.Path, (UnixFileMode)0b111_101_101);
        }

        Directory.CreateDirectory(_folder.File("experiments"));
        await using RedisServer redis = await RedisServer.StartAsync();
        Dictionary<string, string?> environment = new()
        {
            ["XDG_DATA_HOME"] = _folder.Path,
            ["XDG_CONFIG_HOME"] = _folder.Path,
            ["EXPERIMENTS_REDIS"] = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{redis.Port}"),
            ["EXPERIMENTS_POSTGRES_IDLE"] = "2min",
        };
        try
        {
            await using Child silo = await StartAsync(environment, "--port", "0");
            string keeper = await CommandAsync($"\0database\0keeper\0{_folder.Path}");
            Assert.Contains("/experiments-silo", keeper, StringComparison.Ordinal);
            string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
            (await ClientProcess.RunAsync(environment, "submit", file)).Expect(ExitCode.Done);
            (await ClientProcess.RunAsync(environment, "watch", "1")).Expect(ExitCode.Done);
            silo.Signal("TERM");
            Assert.Equal(0, await silo.EndAsync(TimeSpan.FromSeconds(40)));
        }
        finally
        {
            (await ClientProcess.RunAsync(environment, "database", "stop")).Expect(ExitCode.Done);
        }
    }

    /// <summary>Else a trial's times would tell which program its silo was.</summary>
    [Fact]
    public void Both_programs_ask_the_same_of_the_runtime()
    {
        Assert.Equal(Configured("experiments"), Configured("experiments-silo"));

        static string Configured(string program) => JsonNode.Parse(
            File.ReadAllText(Path.Combine(AppContext.BaseDirectory, $"{program}.runtimeconfig.json")))!["runtimeOptions"]!["configProperties"]!.ToJsonString();
    }

    private static RootCommand Build(Dictionary<string, string?> environment) =>
        new SiloProgram(TextWriter.Null, TextWriter.Null, environment.GetValueOrDefault, new Interrupts(), TimeProvider.System).Build();

    /// <summary>The program in this process, as <see cref="Cli"/> has the client.</summary>
    private static async Task<Ran> ProgramAsync(Dictionary<string, string?> environment, params string[] args)
    {
        using StringWriter output = new();
        using StringWriter error = new();
        using Interrupts interrupts = new();
        SiloProgram program = new(
            output, TextWriter.Synchronized(error), name => environment.GetValueOrDefault(name) ?? (name == "HOME" ? "/nonexistent" : null), interrupts,
            TimeProvider.System);
        int code = await program.RunAsync(args);
        return new Ran(code, output.ToString(), error.ToString());
    }

    private static Task<Child> StartAsync(Dictionary<string, string?> environment, params string[] args) =>
        Child.StartAsync(environment, ["dotnet", Path.Combine(AppContext.BaseDirectory, "experiments-silo.dll"), .. args]);

    private static async Task DoneAsync(StoreAddress store, Child silo)
    {
        await using NpgsqlDataSource owner = NpgsqlDataSource.Create(store.Owner);
        long since = TimeProvider.System.GetTimestamp();
        while (true)
        {
            await using NpgsqlCommand state = owner.CreateCommand("SELECT state FROM experiments.sweep WHERE id = 1");
            if ((string?)await state.ExecuteScalarAsync(TestContext.Current.CancellationToken) == "done")
            {
                return;
            }

            Assert.True(silo.IsRunning && TimeProvider.System.GetElapsedTime(since) < Patience, $"The sweep is not done. The silo said: {silo.Said}");
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }
    }

    private static async Task<JsonNode> QueryAsync(Dictionary<string, string?> environment, string sql) =>
        JsonNode.Parse((await Cli.RunAsync(environment, "query", sql, "--json")).Expect(ExitCode.Done).Out)!;

    /// <summary>The command line of a process whose words hold some, once there is one.</summary>
    private static async Task<string> CommandAsync(string words)
    {
        for (long since = TimeProvider.System.GetTimestamp(); TimeProvider.System.GetElapsedTime(since) < Patience;)
        {
            foreach (string folder in Directory.EnumerateDirectories("/proc").Where(f => int.TryParse(Path.GetFileName(f), out _)))
            {
                try
                {
                    string command = await File.ReadAllTextAsync(Path.Combine(folder, "cmdline"), TestContext.Current.CancellationToken);
                    // A shell first has them as words of its own.
                    if (command.Contains(words, StringComparison.Ordinal) && !command.StartsWith("/bin/sh\0", StringComparison.Ordinal))
                    {
                        return command;
                    }
                }
                catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
                {
                    // It has ended as we looked.
                }
            }

            await Task.Delay(50, TestContext.Current.CancellationToken);
        }

        Assert.Fail("There is no such process.");
        return "";
    }
}
