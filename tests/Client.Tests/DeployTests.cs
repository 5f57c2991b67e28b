using System.Diagnostics;
using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Experiments.Client.Tests.Driving;
using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Client.Tests;

/// <summary>What <c>deploy/</c> declares is what the program does: its variables are read, its command lines start a silo, its paths answer.</summary>
[Collection("silo")]
public sealed partial class DeployTests
{
    private const string SmallSweep = """
        name: small
        seed: 1
        instances: {family: uniform, n: [32, 64], d: 3, bound: 1}
        kernels:
          - kernel: exact
          - kernel: low-rank
            degree: [2, 4]
        measure: {rounds: 2, min_time: 1ms, max_noise: 0, sharing: true}
        """;

    private static readonly string Deploy = Path.Combine(ReadmeTests.Root, "deploy");

    private static readonly string? Psql = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Select(folder => Path.Combine(folder, "psql")).FirstOrDefault(File.Exists);

    private static readonly Lazy<Task<Logins>> Prepared = new(PrepareAsync);

    [Fact]
    public void Every_variable_is_one_that_the_program_reads()
    {
        HashSet<string> read = [.. Directory.EnumerateFiles(Path.Combine(ReadmeTests.Root, "src"), "*.cs", SearchOption.AllDirectories)
            .SelectMany(file => Quoted().Matches(File.ReadAllText(file))).Select(m => m.Groups[1].Value)];
        (string File, string Name)[] set = [.. Directory.EnumerateFiles(Deploy, "*", SearchOption.AllDirectories)
            .SelectMany(file => Variable().Matches(File.ReadAllText(file)).Select(m => (Path.GetRelativePath(Deploy, file), m.Value))).Distinct()];
        Assert.Contains(set, s => s.Name == "EXPERIMENTS_POSTGRES");
        Assert.All(set, s => Assert.True(read.Contains(s.Name), $"{s.File} has {s.Name}, which nothing in src reads."));
    }

    [Fact]
    public async Task The_systemd_unit_starts_a_silo_that_answers_and_drains()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        string unit = Read("systemd/experiments-silo.service").Replace("\\\n", " ", StringComparison.Ordinal);
        Dictionary<string, string> variables = Assignments(Read("systemd/silo.env"));
        string[] words = Words(Directive(unit, "ExecStart"), variables);
        Assert.Equal("/opt/experiments/experiments", words[0]);
        foreach (string line in Directives(unit, "Environment"))
        {
            foreach ((string name, string value) in Assignments(line.Replace(' ', '\n')))
            {
                variables[name] = value;
            }
        }

        await AnswersAsync(words[1..], variables, Read("systemd/config.yaml"), ["/health/live", "/health/ready", "/metrics"]);

        // What the store gives a shard's holder after the drain, and some for the end of the process.
        int drain = int.Parse(words[Array.IndexOf(words, "--drain") + 1], System.Globalization.CultureInfo.InvariantCulture);
        Assert.InRange(int.Parse(Directive(unit, "TimeoutStopSec"), System.Globalization.CultureInfo.InvariantCulture), drain + 15, 300);
    }

    [Theory]
    [InlineData("silo-1")]
    [InlineData("silo-2")]
    public async Task A_silo_of_the_compose_file_answers_and_drains(string name)
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        Yaml silo = Yaml.Documents(Read("compose/compose.yaml")).Single()["services"][name];
        string[] words = silo["command"].Texts();
        Assert.Equal(silo["networks"]["cluster"]["ipv4_address"].Text, words[Array.IndexOf(words, "--bind") + 1]);
        await AnswersAsync(
            words, silo["environment"].Pairs().ToDictionary(p => p.Key, p => p.Value.Text), null, ["/health/live", "/health/ready", "/metrics"]);
    }

    [Fact]
    public async Task The_image_starts_a_silo_by_itself()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        string file = Read("docker/Dockerfile");
        string[] words = [.. Yaml.Documents(DockerWords().Match(file).Groups[1].Value).Single().Texts()];
        // On loopback, so without certificates: they are the deployment's to add.
        await AnswersAsync([.. words, "--tls-certificate", "node.crt", "--tls-key", "node.key", "--tls-authority", "ca.crt"],
            new() { ["EXPERIMENTS_POSTGRES"] = "", ["EXPERIMENTS_REDIS"] = "" }, null, ["/health/live", "/health/ready"]);
        Assert.Contains("\nUSER 1654\n", file, StringComparison.Ordinal);
        Assert.Contains("\nENTRYPOINT [\"/app/experiments\"]\n", file, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_Kubernetes_silo_answers_its_probes_at_the_ports_that_are_named()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        Yaml[] documents = [.. Yaml.Documents(Read("kubernetes/silos.yaml"))];
        Yaml pod = documents.Single(d => d["kind"].Text == "Deployment")["spec"]["template"]["spec"];
        Yaml container = pod["containers"].Items().Single();
        string[] words = container["args"].Texts();
        Dictionary<string, string> ports = container["ports"].Items().ToDictionary(p => p["name"].Text, p => p["containerPort"].Text);
        Assert.Equal(words[Array.IndexOf(words, "--port") + 1], ports["silo"]);
        Assert.Equal(words[Array.IndexOf(words, "--health") + 1].Split(':')[1], ports["health"]);
        Yaml[] probes = [.. container.Pairs().Where(p => p.Key.EndsWith("Probe", StringComparison.Ordinal)).Select(p => p.Value["httpGet"])];
        Assert.Equal(3, probes.Length);
        Assert.All(probes, probe => Assert.Equal("health", probe["port"].Text));

        // The policy lets in what the container listens on, and nothing else.
        Yaml policy = documents.Single(d => d["kind"].Text == "NetworkPolicy")["spec"];
        Assert.Equal(
            ports.Values.Order(), policy["ingress"].Items().SelectMany(i => i["ports"].Items()).Select(p => p["port"].Text).Order());

        // What names a field of the pod is known when it runs; each that the words mention has to be declared.
        Dictionary<string, string> variables = container["env"].Items().ToDictionary(
            e => e["name"].Text, e => e.Has("value") ? e["value"].Text : "given-by-the-cluster");
        await AnswersAsync(Words(string.Join(' ', words), variables), variables, Read("systemd/config.yaml"), [.. probes.Select(p => p["path"].Text).Append("/metrics")]);

        int drain = int.Parse(words[Array.IndexOf(words, "--drain") + 1], System.Globalization.CultureInfo.InvariantCulture);
        Assert.InRange(int.Parse(pod["terminationGracePeriodSeconds"].Text, System.Globalization.CultureInfo.InvariantCulture), drain + 15, 300);
        Assert.Equal("1654", pod["securityContext"]["runAsUser"].Text);
    }

    [Fact]
    public void The_compose_file_finds_its_files_and_asks_for_no_variable_that_its_example_lacks()
    {
        string text = Read("compose/compose.yaml");
        Yaml services = Yaml.Documents(text).Single()["services"];
        Dictionary<string, string> example = Assignments(Read("compose/.env.example"));
        string[] asked = [.. Interpolated().Matches(text).Select(m => m.Groups[1].Value).Distinct()];
        Assert.Equal(example.Keys.Order(), asked.Order());
        string[] volumes = [.. services.Pairs().Where(s => s.Value.Has("volumes")).SelectMany(s => s.Value["volumes"].Texts())
            .Select(v => v.Split(':')[0]).Where(v => v[0] == '.')];
        Assert.True(volumes.Length >= 6, string.Join(' ', volumes));
        Assert.All(volumes, v => Assert.True(Path.Exists(Path.Combine(Deploy, "compose", v)), v));
        Yaml build = services["migrate"]["build"];
        Assert.True(File.Exists(Path.Combine(Deploy, "compose", build["context"].Text, build["dockerfile"].Text)));
        foreach (Yaml program in (Yaml[])[services["migrate"], services["certificates"], services["silo-1"]])
        {
            Assert.Empty(CommandTree.Build(new Terminals.Terminal { Out = TextWriter.Null, Error = TextWriter.Null })
                .Parse(program["command"].Texts(), CommandTree.Parsing).Errors);
        }
    }

    [Fact]
    public async Task The_logins_may_what_they_are_for_and_the_dashboard_answers_as_the_one_that_reads()
    {
        Assert.SkipWhen(Psql is null, "no psql on the PATH");
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        Logins logins = await Prepared.Value;

        // A silo's login runs a sweep, and can neither change the schema nor make a role.
        using TemporaryFolder folder = new();
        await RunAsSiloAsync(folder, logins);
        await using NpgsqlConnection silo = new(logins.As("silo", "silo"));
        await silo.OpenAsync(cancellation);
        foreach (string beyond in (string[])["DROP TABLE experiments.trial", "CREATE TABLE experiments.mine (x int)", "CREATE ROLE mine", "SELECT lo_create(0)", "UPDATE experiments.trial SET loss = 0"])
        {
            Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, (await Assert.ThrowsAsync<PostgresException>(() => RowsAsync(silo, beyond))).SqlState);
        }

        await using NpgsqlConnection looking = new(logins.As("dashboards", "look"));
        await looking.OpenAsync(cancellation);
        Assert.Equal(PostgresErrorCodes.ReadOnlySqlTransaction,
            (await Assert.ThrowsAsync<PostgresException>(() => RowsAsync(looking, "DELETE FROM experiments.sweep"))).SqlState);
        await RowsAsync(looking, "SET default_transaction_read_only = off");
        foreach (string beyond in (string[])["DELETE FROM experiments.sweep", "SELECT lo_create(0)", "CREATE TEMPORARY TABLE mine (x int)", "SELECT data FROM experiments.file_piece"])
        {
            Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, (await Assert.ThrowsAsync<PostgresException>(() => RowsAsync(looking, beyond))).SqlState);
        }

        JsonNode dashboard = JsonNode.Parse(Read("compose/grafana/dashboards/experiments.json"))!;
        Assert.True(await RowsAsync(looking, (string)dashboard["templating"]!["list"]![0]!["query"]!) > 0);
        JsonArray panels = dashboard["panels"]!.AsArray();
        Assert.True(panels.Count >= 10);
        foreach (JsonNode? panel in panels)
        {
            long rows = await RowsAsync(looking, Filled((string)panel!["targets"]![0]!["rawSql"]!));
            // Nothing failed in the sweep, and everything else about it has something to show.
            Assert.True(rows > 0 != ((string)panel["title"]!).Contains("failures", StringComparison.Ordinal), $"{panel["title"]}: {rows} rows");
        }

        string queue = Yaml.Documents(Read("kubernetes/autoscale.yaml")).Last()["spec"]["triggers"].Items().Single()["metadata"]["query"].Text;
        Assert.Equal(1, await RowsAsync(looking, queue));
    }

    [Fact]
    public async Task What_the_runbook_backs_up_is_there_when_it_has_restored_it()
    {
        Assert.SkipWhen(Psql is null, "no psql on the PATH");
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        Logins logins = await Prepared.Value;
        using TemporaryFolder folder = new();
        await RunAsSiloAsync(folder, logins);
        await using (NpgsqlConnection administrator = new(logins.Administrator))
        {
            await administrator.OpenAsync(cancellation);
            await RowsAsync(administrator, "CREATE DATABASE restored OWNER experiments");
        }

        // A sweep stores a reference where it was dear; the runbook is to keep one in any case.
        await using (NpgsqlConnection silo = new(logins.As("silo", "silo")))
        {
            await silo.OpenAsync(cancellation);
            await RowsAsync(silo, """
                INSERT INTO experiments.reference (instance_key, loss, max_logit, rms_logit, seconds, gradient, forward)
                SELECT gen_random_uuid(), 0.1, 1, 1, 1, decode(repeat('00ff5c', 40000), 'hex'), ''
                """);
        }

        string[] commands = [.. RunbookCommand().Matches(Read("BACKUP.md")).Select(m => m.Groups[1].Value)];
        Assert.Equal(["pg_dump", "pg_restore"], commands.Select(c => c.Split(' ')[0]));
        foreach (string command in commands)
        {
            string here = command
                .Replace("host=db.example.org user=experiments dbname=experiments", $"host={logins.Host} user=experiments dbname=experiments", StringComparison.Ordinal)
                .Replace("host=new.example.org user=experiments dbname=experiments", $"host={logins.Host} user=experiments dbname=restored", StringComparison.Ordinal)
                .Replace("experiments.dump", folder.File("experiments.dump"), StringComparison.Ordinal);
            (int code, string said) = await ProgramAsync("env", $"PGPASSWORD={Logins.OwnersPassword}", "bash", "-c", here);
            Assert.True(code == 0 && here.Contains(logins.Host, StringComparison.Ordinal), $"{here}: {said}");
        }

        string restored = logins.As("experiments", Logins.OwnersPassword, "restored");
        (await Cli.RunAsync("database", "migrate", "--postgres", restored)).Expect(ExitCode.Done);
        await using NpgsqlConnection before = new(logins.As("experiments", Logins.OwnersPassword));
        await using NpgsqlConnection after = new(restored);
        await before.OpenAsync(cancellation);
        await after.OpenAsync(cancellation);
        foreach (string table in (string[])["sweep", "shard", "node", "trial", "sample", "span", "reference", "trial_attempt"])
        {
            string sql = $"SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, chr(10) ORDER BY t::text)), '') FROM experiments.{table} t";
            await using NpgsqlCommand was = new(sql, before);
            await using NpgsqlCommand became = new(sql, after);
            string had = (string)(await was.ExecuteScalarAsync(cancellation))!;
            Assert.Equal(had, (string)(await became.ExecuteScalarAsync(cancellation))!);
            Assert.True(table == "trial_attempt" || had[0] != '0', $"{table} was empty: nothing was shown.");
        }

        // And it is used as it is: its role for queries answers, and a sweep is added.
        (await Cli.RunAsync("query", "select count(*) from trials", "--postgres", restored)).Expect(ExitCode.Done);
        (await Cli.RunAsync("run", folder.File("small.yaml"), "--postgres", restored)).Expect(ExitCode.Done);
    }

    [Fact]
    public async Task Systemd_finds_no_fault_with_the_unit()
    {
        const string Analyze = "/usr/bin/systemd-analyze";
        Assert.SkipUnless(File.Exists(Analyze), "no systemd-analyze");
        using TemporaryFolder folder = new();
        // It looks for the program, which is not installed here.
        string unit = folder.Write("experiments-silo.service", Read("systemd/experiments-silo.service")
            .Replace("/opt/experiments/experiments silo", "/bin/true silo", StringComparison.Ordinal));
        (int code, string said) = await ProgramAsync(Analyze, "verify", "--man=no", unit);
        Assert.True(code == 0 && said.Length == 0, said);
    }

    [Fact]
    public async Task Shell_scripts_are_free_of_what_shellcheck_knows()
    {
        string? shellcheck = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
            .Select(folder => Path.Combine(folder, "shellcheck")).FirstOrDefault(File.Exists);
        Assert.SkipWhen(shellcheck is null, "no shellcheck on the PATH");
        string[] scripts = [.. Directory.EnumerateFiles(Deploy, "*", SearchOption.AllDirectories)
            .Where(file => File.ReadLines(file).FirstOrDefault()?.StartsWith("#!", StringComparison.Ordinal) == true)];
        Assert.NotEmpty(scripts);
        (int code, string said) = await ProgramAsync(shellcheck, scripts);
        Assert.True(code == 0, said);
    }

    [Fact]
    public async Task The_Slurm_script_runs_a_sweep_to_its_end_and_leaves_nothing_behind()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        using TemporaryFolder folder = new();
        StoreAddress store = await TestPostgres.CreateDatabaseAsync();
        string bin = Directory.CreateDirectory(folder.File("bin")).FullName;
        string experiments = Program(bin, "experiments", Limited($"dotnet '{Path.Combine(AppContext.BaseDirectory, "experiments.dll")}'"));
        // Slurm's two programs, as far as the script leans on them: a task a node, signals passed on, names one a line.
        Program(bin, "srun", """
            while [[ $1 == --* ]]; do shift; done
            for (( task = 0; task < SLURM_JOB_NUM_NODES; task++ )); do SLURMD_NODENAME=localhost "$@" & tasks+=($!); done
            trap 'kill -TERM "${tasks[@]}"' TERM
            wait || :
            wait
            """);
        Program(bin, "scontrol", """
            [ "$*" = "show hostnames node[1-2]" ] && printf 'localhost\nlocalhost\n'
            """);
        Dictionary<string, string?> environment = new()
        {
            ["PATH"] = bin + ":" + Environment.GetEnvironmentVariable("PATH"),
            ["HOME"] = folder.Path,
            ["EXPERIMENTS"] = experiments,
            ["EXPERIMENTS_CONFIG"] = folder.Write("config.yaml", $"postgres: '{store.Owner}'\n"),
            ["REDIS_PORT"] = Ports.Free().ToString(System.Globalization.CultureInfo.InvariantCulture),
            ["SLURM_JOB_ID"] = "4711",
            ["SLURM_JOB_NUM_NODES"] = "2",
            ["SLURM_JOB_NODELIST"] = "node[1-2]",
            ["SLURM_SUBMIT_DIR"] = folder.Path,
            ["SLURMD_NODENAME"] = "localhost",
        };
        await using Child job = await Child.StartAsync(
            environment, "bash", Path.Combine(Deploy, "slurm", "sweep.sbatch"), folder.Write("small.yaml", SmallSweep));
        Assert.True(await job.EndAsync(TimeSpan.FromMinutes(2)) == 0, job.Said);
        Assert.Contains("6 of 6 trials, 0 failed", job.Said, StringComparison.Ordinal);
        Assert.Equal(2, job.Said.Split("Draining").Length - 1);
        // The job's folder, with its passwords and keys, is gone.
        Assert.Empty(Directory.EnumerateDirectories(folder.Path, "experiments-4711*"));
    }

    [Fact]
    public async Task The_ssh_script_installs_starts_asks_and_stops_silos()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        using TemporaryFolder folder = new();
        StoreAddress store = await TestPostgres.CreateDatabaseAsync();
        await using RedisServer redis = await RedisServer.StartAsync();
        string program = Directory.CreateDirectory(folder.File("experiments-0")).FullName;
        Program(program, "experiments", Limited($"dotnet '{Path.Combine(AppContext.BaseDirectory, "experiments.dll")}'"));
        Assert.Equal((0, ""), await ProgramAsync("tar", "-C", folder.Path, "-czf", folder.File("program.tar.gz"), "experiments-0"));
        // As ssh does: the words joined by blanks, for the shell of an account there, at its home.
        string ssh = Program(folder.Path, "ssh", $"""
            host=$1; shift; mkdir -p '{folder.Path}'/"$host"; cd '{folder.Path}'/"$host"; export HOME=$PWD; exec sh -c "$*"
            """);
        string hosts = folder.Write("hosts", "# two machines\none 127.0.0.1\ntwo 127.0.0.2\n");
        string config = folder.Write("config.yaml", $"postgres: '{store.Owner}'\nredis: 127.0.0.1:{redis.Port}\n");
        Task<(int Code, string Said)> SilosAsync(params string[] words) =>
            ProgramAsync("env", [$"SILOS_SSH={ssh}", Path.Combine(Deploy, "ssh", "silos.sh"), .. words]);
        Assert.Equal(1, (await SilosAsync("start", hosts)).Code);
        (int code, string said) = await SilosAsync("install", hosts, folder.File("program.tar.gz"), config);
        Assert.True(code == 0, said);
        Assert.False(File.Exists(folder.File("one/experiments-silo/127.0.0.1/ca.key")));
        try
        {
            (code, said) = await SilosAsync("start", hosts);
            Assert.True(code == 0, said);
            Stopwatch watch = Stopwatch.StartNew();
            while ((said = (await SilosAsync("status", hosts)).Said).Split("\"ready\"").Length != 3)
            {
                Assert.True(watch.Elapsed < TimeSpan.FromSeconds(30), said);
            }
        }
        finally
        {
            (code, said) = await SilosAsync("stop", hosts);
        }

        Assert.Equal("one 127.0.0.1: stopped\ntwo 127.0.0.2: stopped\n", said);
        Assert.Equal(1, (await SilosAsync("status", hosts)).Code);
    }

    /// <summary>A silo starts by these words, answers at every path, and leaves when it is told.</summary>
    private static async Task AnswersAsync(
        string[] words, Dictionary<string, string> variables, string? configuration, IReadOnlyCollection<string> paths)
    {
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        await using RedisServer redis = await RedisServer.StartAsync();
        await using DeclaredSilo silo = await DeclaredSilo.StartAsync(
            await TestPostgres.CreateDatabaseAsync(), redis, words, variables, configuration);
        using HttpClient http = new();
        foreach (string path in paths)
        {
            Stopwatch watch = Stopwatch.StartNew();
            while (true)
            {
                using HttpResponseMessage answer = await http.GetAsync(new Uri($"http://127.0.0.1:{silo.HealthPort}{path}"), cancellation);
                if (answer.StatusCode == HttpStatusCode.OK)
                {
                    break;
                }

                // Ready is a matter of seconds; a path that is not there stays so.
                Assert.True(
                    answer.StatusCode == HttpStatusCode.ServiceUnavailable && watch.Elapsed < TimeSpan.FromSeconds(30),
                    $"{path} answers {(int)answer.StatusCode}. The silo said:\n{silo.Said}");
                await Task.Delay(100, cancellation);
            }
        }

        Assert.Equal(0, await silo.StopAsync());
    }

    private static async Task<Logins> PrepareAsync()
    {
        (string anOwner, string superuser) = await TestPostgres.StartWithPasswordsAsync("other");
        // The test server's own superuser and database have the names that are to be the owner's.
        await using (NpgsqlConnection first = new(superuser))
        {
            await first.OpenAsync();
            await RowsAsync(first, "CREATE ROLE administrator LOGIN SUPERUSER");
        }

        NpgsqlConnectionStringBuilder socket = new(superuser) { Username = "administrator" };
        await using (NpgsqlConnection second = new(socket.ConnectionString))
        {
            await second.OpenAsync();
            await RowsAsync(second, $"ALTER ROLE {new NpgsqlConnectionStringBuilder(superuser).Username} RENAME TO first");
            await RowsAsync(second, "ALTER DATABASE experiments RENAME TO first");
        }

        Logins logins = new(new NpgsqlConnectionStringBuilder(anOwner).Host!, socket.ConnectionString);
        (int code, string said) = await ProgramAsync(
            Psql!, "-v", "ON_ERROR_STOP=1", "-v", $"owner_password={Logins.OwnersPassword}", "-v", "silo_password=silo", "-v", "dashboards_password=look",
            "-h", socket.Host!, "-U", socket.Username!, "-f", Path.Combine(Deploy, "postgres", "roles.sql"), "postgres");
        Assert.True(code == 0, said);
        (await Cli.RunAsync("database", "migrate", "--postgres", logins.As("experiments", Logins.OwnersPassword))).Expect(ExitCode.Done);
        (code, said) = await ProgramAsync(
            "env", $"PGPASSWORD={Logins.OwnersPassword}", Psql!, "-v", "ON_ERROR_STOP=1", "-h", logins.Host, "-U", "experiments",
            "-f", Path.Combine(Deploy, "postgres", "grants.sql"), "experiments");
        Assert.True(code == 0, said);
        return logins;
    }

    private static async Task<long> RowsAsync(NpgsqlConnection connection, string sql)
    {
        await using NpgsqlCommand command = new(sql, connection);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(TestContext.Current.CancellationToken);
        long rows = 0;
        while (await reader.ReadAsync(TestContext.Current.CancellationToken))
        {
            rows++;
        }

        return rows;
    }

    /// <summary>What Grafana makes of its macros: https://grafana.com/docs/grafana/latest/datasources/postgres/.</summary>
    private static string Filled(string sql)
    {
        string filled = TimeFilter().Replace(sql, "$1 BETWEEN now() - interval '1 hour' AND now()");
        filled = TimeGroup().Replace(filled, "floor(extract(epoch from $1)/60)*60 AS \"time\"").Replace("$sweep", "1", StringComparison.Ordinal);
        Assert.DoesNotContain("$", filled, StringComparison.Ordinal);
        return filled;
    }

    private static async Task<(int Code, string Said)> ProgramAsync(string program, params string[] words)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, words) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, output + await error);
    }

    /// <summary>A small sweep, run and stored by a silo's login.</summary>
    private static async Task RunAsSiloAsync(TemporaryFolder folder, Logins logins) =>
        (await Cli.RunAsync("run", folder.Write("small.yaml", SmallSweep), "--postgres", logins.As("silo", "silo"))).Expect(ExitCode.Done);

    private static string Program(string folder, string name, string script)
    {
        string file = Path.Combine(folder, name);
        File.WriteAllText(file, $"#!/usr/bin/env bash\n{script}\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        return file;
    }

    /// <summary>Whatever becomes of the test, what a script left running on its own ends.</summary>
    private static string Limited(string command) => $"exec timeout -k 5 120 {command} \"$@\"";

    private static string Read(string file) => File.ReadAllText(Path.Combine(Deploy, file));

    private static string[] Directives(string unit, string name) =>
        [.. unit.Split('\n').Where(line => line.StartsWith(name + "=", StringComparison.Ordinal)).Select(line => line[(name.Length + 1)..].Trim())];

    private static string Directive(string unit, string name) => Assert.Single(Directives(unit, name));

    private static Dictionary<string, string> Assignments(string lines) => lines.Split('\n')
        .Where(line => line.Contains('=', StringComparison.Ordinal) && line[0] != '#')
        .ToDictionary(line => line[..line.IndexOf('=', StringComparison.Ordinal)], line => line[(line.IndexOf('=', StringComparison.Ordinal) + 1)..]);

    /// <summary>A command line's words, with the variables that it names; one that is not set is a fault.</summary>
    private static string[] Words(string line, Dictionary<string, string> variables) =>
        [.. line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word => Named().Replace(word, name => variables[name.Groups[1].Value]))];

    [GeneratedRegex(@"""((?:EXPERIMENTS|OTEL)_[A-Z_]+)""")]
    private static partial Regex Quoted();

    [GeneratedRegex(@"\b(?:EXPERIMENTS|OTEL)_[A-Z_]+\b")]
    private static partial Regex Variable();

    [GeneratedRegex(@"\$__timeFilter\(([a-z_.]+)\)")]
    private static partial Regex TimeFilter();

    [GeneratedRegex(@"\$__timeGroupAlias\(([a-z_.]+), \$__interval\)")]
    private static partial Regex TimeGroup();

    [GeneratedRegex(@"\$\{([A-Z_]+):\?")]
    private static partial Regex Interpolated();

    [GeneratedRegex(@"^CMD (\[.*\])$", RegexOptions.Multiline)]
    private static partial Regex DockerWords();

    [GeneratedRegex(@"\$[{(]([A-Z_]+)[})]")]
    private static partial Regex Named();

    [GeneratedRegex(@"^ +(pg_(?:dump|restore) .*)$", RegexOptions.Multiline)]
    private static partial Regex RunbookCommand();

    /// <summary>A server that asks for passwords, made ready as <c>deploy/postgres</c> says.</summary>
    private sealed record Logins(string Host, string Administrator)
    {
        public const string OwnersPassword = "o'wner";

        public string As(string login, string password, string database = "experiments") => new NpgsqlConnectionStringBuilder
        {
            Host = Host, Database = database, Username = login, Password = password, Pooling = false,
        }.ConnectionString;
    }
}
