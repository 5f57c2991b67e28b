using System.Diagnostics;
using System.Net;
using System.Text.RegularExpressions;
using Experiments.Client.Tests.Driving;
using Experiments.Results.Store;
using Experiments.Testing;

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

    private static async Task<(int Code, string Said)> ProgramAsync(string program, params string[] words)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, words) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, output + await error);
    }

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

    [GeneratedRegex(@"\$[{(]([A-Z_]+)[})]")]
    private static partial Regex Named();
}
