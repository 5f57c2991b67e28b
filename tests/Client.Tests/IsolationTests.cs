using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;
using Experiments.Grains;
using Experiments.Grains.Running;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Client.Tests;

/// <summary>Trials that kill their process, by real processes that die.</summary>
[Collection("silo")]
public sealed class IsolationTests : IDisposable
{
    private static readonly string Configuration =
        Path.GetFileName(Path.GetDirectoryName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar))!);

    private static readonly string Folder =
        Path.Combine(ReadmeTests.Root, "tests", "Plugins.Poison", "bin", Configuration, "net10.0");

    private static readonly string[] Timings =
    [
        nameof(TrialOutcome.StartedAt), nameof(TrialOutcome.SecondsMin), nameof(TrialOutcome.SecondsMedian), nameof(TrialOutcome.SecondsMad),
        nameof(TrialOutcome.Samples), nameof(TrialOutcome.CoreSeconds), nameof(TrialOutcome.SpeedupOverExact), nameof(TrialOutcome.ProjectSeconds),
        nameof(TrialOutcome.MomentsSeconds), nameof(TrialOutcome.RowsSeconds), nameof(TrialOutcome.ReduceSeconds), nameof(TrialOutcome.SpanId),
    ];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task An_isolated_shard_comes_to_the_same_as_one_that_is_not()
    {
        // Done, failed by the kernel's own word, skipped, and one that writes to where the process speaks to us.
        const string Kernels = """
            - {kernel: exact, precision: [float32, float64]}
              - {kernel: low-rank, degree: [2, 9], precision: float32}
              - {kernel: random-fourier, features: 4, precision: float64}
              - {kernel: poison, how: [not, print], precision: float64}
            """;
        string yaml = Sweep(Kernels, bound: "[1, 12]", limits: "{memory: 1MiB}", n: "[48, 20000]");
        Computed plain = await ComputeAsync(yaml, deaths: 1);
        Computed isolated = await ComputeAsync(yaml, deaths: 2);
        Assert.False(isolated.Kills);
        Assert.Equal(
            [TrialStatus.Done, TrialStatus.Failed, TrialStatus.Skipped],
            plain.Outcomes.Select(o => o.Status).Distinct().Order());
        Assert.Equal(plain.Outcomes.Count, isolated.Outcomes.Count);
        PropertyInfo[] same = [.. typeof(TrialOutcome).GetProperties().Where(p => !Timings.Contains(p.Name))];
        foreach ((TrialOutcome before, TrialOutcome after) in plain.Outcomes.Zip(isolated.Outcomes))
        {
            Assert.All(same, p => Assert.Equal((p.Name, Text(p.GetValue(before))), (p.Name, Text(p.GetValue(after)))));
            Assert.Equal(before.Samples?.Length, after.Samples?.Length);
            Assert.Equal(before.SpeedupOverExact is null, after.SpeedupOverExact is null);
            Assert.Equal(before.SecondsMedian is null, after.SecondsMedian is null);
        }
    }

    [Theory]
    [InlineData("abort", "signal 6 (SIGABRT)", "Process terminated. poisoned on purpose")]
    [InlineData("exit", "exit code 7", null)]
    [InlineData("crash", "SIG", "Fatal error")]
    [InlineData("overflow", "signal 6 (SIGABRT)", "Stack overflow")]
    public async Task A_trial_that_kills_its_process_is_given_up_and_the_others_are_not(string how, string ending, string? words)
    {
        Computed undisturbed = await ComputeAsync(Sweep(Poison("not")), deaths: 0);
        Computed result = await ComputeAsync(Sweep(Poison(how), limits: "{retries: 2}"), deaths: 2);
        Assert.True(result.Kills);
        foreach ((TrialOutcome before, TrialOutcome after) in undisturbed.Outcomes.Zip(result.Outcomes))
        {
            Assert.Equal(before.Trial, after.Trial);
            if (after.Spec.Kernel != "poison")
            {
                Assert.Equal((TrialStatus.Done, before.Digest), (after.Status, after.Digest));
                Assert.NotNull(after.SpeedupOverExact);
                continue;
            }

            // Once among the others, and twice alone.
            Assert.Equal((TrialStatus.Failed, 3), (after.Status, after.Attempts));
            Assert.Contains($"{ending}", after.Reason, StringComparison.Ordinal);
            Assert.Contains("3 times of 3, where nothing else ran; 2 silos had died with its shard before", after.Reason, StringComparison.Ordinal);
            Assert.Contains(words ?? "", after.Reason, StringComparison.Ordinal);
            Assert.Null(after.Digest);
        }
    }

    [Fact]
    public async Task One_that_is_not_to_be_tried_again_dies_alone_all_the_same()
    {
        Computed result = await ComputeAsync(Sweep(Poison("exit"), limits: "{retries: 0}"), deaths: 2);
        Assert.All(result.Outcomes.Where(o => o.Spec.Kernel == "poison"), o => Assert.Equal(2, o.Attempts));
        Assert.Equal([TrialStatus.Failed], result.Outcomes.Where(o => o.Spec.Kernel == "poison").Select(o => o.Status).Distinct());
    }

    [Fact]
    public async Task Nobody_is_given_up_for_a_thread_that_another_has_left_behind()
    {
        // Slow enough that the thread dies in their midst.
        Computed result = await ComputeAsync(
            Sweep(Poison("late"), limits: "{retries: 0}", n: "700", rounds: 20), deaths: 2);
        Assert.All(result.Outcomes.Where(o => o.Spec.Kernel != "poison"), o => Assert.Equal((TrialStatus.Done, null), (o.Status, o.Reason)));
    }

    [Fact]
    public async Task One_that_does_not_end_when_its_time_is_up_is_ended()
    {
        Computed result = await ComputeAsync(
            Sweep(Poison("hang"), limits: "{trial_timeout: 500ms}"), deaths: 2,
            options: Options() with { Patience = TimeSpan.FromMilliseconds(500) });
        Assert.False(result.Kills);
        Assert.All(result.Outcomes, o => Assert.Equal(o.Spec.Kernel == "poison" ? TrialStatus.Failed : TrialStatus.Done, o.Status));
        Assert.All(
            result.Outcomes.Where(o => o.Spec.Kernel == "poison"),
            o => Assert.StartsWith("timed out after 500 ms (limits.trial_timeout) and did not end", o.Reason, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Its_process_ends_with_the_run_that_is_cancelled()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "/proc tells what processes there are.");
        using CancellationTokenSource cancel = new();
        Task<Computed> running = ComputeAsync(Sweep(Poison("hang"), limits: "{trial_timeout: 1h}"), deaths: 2, cancel: cancel);
        int child = await ChildAsync(Environment.ProcessId);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        await GoneAsync(child);
    }

    [Fact]
    public async Task A_program_that_cannot_serve_is_our_fault_and_no_trial_s()
    {
        IsolationOptions options = new(["/bin/sh", "-c", "echo no such thing >&2; exit 3"], new Dictionary<string, string?>());
        InvalidOperationException fault = await Assert.ThrowsAsync<InvalidOperationException>(
            () => ComputeAsync(Sweep(Poison("not")), deaths: 2, options: options));
        Assert.EndsWith("3 in a row ended before they had begun it. The last one: exit code 3; it wrote: no such thing.", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_sweep_that_kills_its_command_is_done_when_it_has_been_resumed_twice()
    {
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        Dictionary<string, string?> environment = new()
        {
            ["EXPERIMENTS_POSTGRES"] = address.Owner, ["EXPERIMENTS_PLUGINS"] = Folder, ["DOTNET_DbgEnableMiniDump"] = "0",
        };
        string undisturbed = _folder.Write("undisturbed.yaml", Sweep(Poison("not"), limits: "{retries: 1}"));
        (await ClientProcess.RunAsync(environment, "run", undisturbed)).Expect(ExitCode.Done);
        string poisoned = _folder.Write("poisoned.yaml", Sweep(Poison("[not, abort]"), limits: "{retries: 1}"));
        Assert.Equal(134, (await ClientProcess.RunAsync(environment, "run", poisoned)).Code);
        Assert.Equal(134, (await ClientProcess.RunAsync(environment, "resume", "2")).Code);
        Ran last = (await ClientProcess.RunAsync(environment, "resume", "2")).Expect(ExitCode.SomeFailed);
        const string Words = "killed its process (signal 6 (SIGABRT)) 2 times of 2, where nothing else ran; 2 silos had died with its shard before; "
            + "it wrote: Process terminated. poisoned on purpose";
        Assert.Contains(Words, last.Out, StringComparison.Ordinal);
        Assert.Contains(Words, (await Cli.RunAsync(environment, "show", "2")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
        JsonNode rows = await QueryAsync(
            environment, "select trial, kernel_parameters->>'how' as how, status, reason, attempts from trials where sweep_id = 2 and status <> 'done'");
        Assert.Equal(2, rows.AsArray().Count);
        Assert.All(rows.AsArray(), r => Assert.Equal(("abort", "failed", Words, 2), ((string)r!["how"]!, (string)r["status"]!, (string)r["reason"]!, (int)r["attempts"]!)));
        JsonNode digests = await QueryAsync(
            environment,
            "select count(*) as all, count(*) filter (where a.digest = b.digest) as same from trials a join trials b using (trial_key) "
            + "where a.sweep_id = 1 and b.sweep_id = 2");
        Assert.Equal((6, 6), ((int)digests[0]!["all"]!, (int)digests[0]!["same"]!));

        // All that it wrote is with its trace, which has every span of a shard that nothing disturbed besides.
        JsonNode spans = await QueryAsync(
            environment,
            "select count(*) filter (where attributes->>'experiments.process.stderr' like '%PoisonGradient.Compute%') as told, "
            + "count(*) filter (where name = 'commit') as commits, count(distinct trace_id) as traces from spans "
            + "where sweep_id = 2 and trace_id in (select trace_id from trials where sweep_id = 2)");
        Assert.Equal((2, 1, 1), ((int)spans[0]!["told"]!, (int)spans[0]!["commits"]!, (int)spans[0]!["traces"]!));
        Assert.Contains(Words, (await Cli.RunAsync(environment, "trace", "2", $"{rows[0]!["trial"]}")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_process_outlives_its_silo_s_signals_and_not_its_silo()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "/proc tells what processes there are.");
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        Dictionary<string, string?> environment = new() { ["EXPERIMENTS_POSTGRES"] = address.Owner, ["EXPERIMENTS_PLUGINS"] = Folder };
        string file = _folder.Write("hangs.yaml", Sweep(Poison("hang"), limits: "{trial_timeout: 1h}"));
        (await Cli.RunAsync(environment, "submit", file)).Expect(ExitCode.Done);
        await using (NpgsqlDataSource owner = NpgsqlDataSource.Create(address.Owner))
        {
            await using NpgsqlCommand died = owner.CreateCommand("UPDATE experiments.shard SET dead_nodes = '{998, 999}'");
            await died.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        using ClientProcess silo = ClientProcess.Start(environment, "resume", "1");
        int child = await ChildAsync(silo.Id);
        string secrets = await File.ReadAllTextAsync($"/proc/{child}/environ", TestContext.Current.CancellationToken);
        Assert.DoesNotContain("EXPERIMENTS_POSTGRES", secrets, StringComparison.Ordinal);

        // It answers them once it is up, which the kernel that it has called shows.
        await silo.SaysAsync("0 of 6 trials");
        await Task.Delay(TimeSpan.FromSeconds(2), TestContext.Current.CancellationToken);
        foreach (string signal in (string[])["INT", "TERM", "HUP"])
        {
            using Process kill = Process.Start("/bin/kill", ["-" + signal, child.ToString(CultureInfo.InvariantCulture)]);
            await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        }

        await Task.Delay(500, TestContext.Current.CancellationToken);
        Assert.True(Directory.Exists($"/proc/{child}"));
        silo.Signal("KILL");
        await silo.EndAsync();
        await GoneAsync(child);
    }

    private static string Poison(string how) => $$"""
        - {kernel: exact, precision: float64}
          - {kernel: poison, how: {{how}}, precision: float64}
          - {kernel: low-rank, degree: 3, precision: float64}
        """;

    private static string Sweep(string kernels, string bound = "1", string limits = "{retries: 2}", string n = "48", int rounds = 2) => $$"""
        name: poisoned
        seed: 5
        instances: {family: uniform, n: {{n}}, d: 4, bound: {{bound}}, repeats: 2}
        kernels:
          {{kernels}}
        measure: {rounds: {{rounds}}, min_time: 0, max_noise: 0}
        limits: {{limits}}
        """;

    private static IsolationOptions Options() => new(
        ["dotnet", Path.Combine(AppContext.BaseDirectory, "experiments.dll"), "isolated"],
        new Dictionary<string, string?> { ["EXPERIMENTS_PLUGINS"] = Folder, ["DOTNET_DbgEnableMiniDump"] = "0" });

    /// <summary>A whole sweep as one shard, with what a silo has around it but the cluster and the store.</summary>
    private static async Task<Computed> ComputeAsync(string yaml, int deaths, IsolationOptions? options = null, CancellationTokenSource? cancel = null)
    {
        Workbench workbench = PlugIns.Workbench(PlugIns.Load(Folder));
        Catalog catalog = BuiltInCatalog.Create(workbench);
        SweepSpec spec = SweepFile.Parse(yaml, "poison.yaml", ".", catalog);
        SweepExpansion expansion = new(spec, catalog);
        int trials = Enumerable.Range(0, (int)expansion.ProductSize).Sum(i => expansion.At(i)?.Trials.Count ?? 0);
        ShardLease lease = new(1, 0, 1, 0, expansion.ProductSize, 0, trials, 0) { Deaths = deaths };
        using MemoryBudget memory = new(1L << 30);
        using ComputePool pool = new(1);
        using IsolatedRunner isolated = new(options ?? Options(), memory, new InPlace(), TimeProvider.System);
        ShardHost host = new(pool, new ShardRunner(workbench, memory, new NoReferences(), new InPlace(), TimeProvider.System), isolated);
        OutcomeList outcomes = [];
        ShardRun run = new(SweepPlan.Of(1, spec.ToJson(), catalog), lease, new HashSet<long>(), outcomes, cancel?.Token ?? TestContext.Current.CancellationToken);
        host.Expect(run);
        host.Begin(lease, default);
        ShardResult result = await run.Completion.WaitAsync(TimeSpan.FromMinutes(4), TestContext.Current.CancellationToken);
        return new Computed(outcomes, result.Kills);
    }

    private static async Task<JsonNode> QueryAsync(Dictionary<string, string?> environment, string sql) =>
        JsonNode.Parse((await Cli.RunAsync(environment, "query", sql, "--json")).Expect(ExitCode.Done).Out)!;

    private static string Text(object? value) => value switch
    {
        double number => number.ToString("R", CultureInfo.InvariantCulture),
        InstanceSpec instance => instance.Key.ToString(),
        _ => $"{value}",
    };

    /// <summary>The number of the isolated process that another has started.</summary>
    private static async Task<int> ChildAsync(int parent)
    {
        for (int i = 0; i < 1200; i++)
        {
            foreach (string folder in Directory.EnumerateDirectories("/proc").Where(f => int.TryParse(Path.GetFileName(f), out _)))
            {
                try
                {
                    string status = await File.ReadAllTextAsync(Path.Combine(folder, "status"), TestContext.Current.CancellationToken);
                    string command = await File.ReadAllTextAsync(Path.Combine(folder, "cmdline"), TestContext.Current.CancellationToken);
                    if (status.Contains($"PPid:\t{parent}\n", StringComparison.Ordinal) && command.EndsWith("isolated\0", StringComparison.Ordinal))
                    {
                        return int.Parse(Path.GetFileName(folder), CultureInfo.InvariantCulture);
                    }
                }
                catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
                {
                    // It has ended as we looked.
                }
            }

            await Task.Delay(50, TestContext.Current.CancellationToken);
        }

        Assert.Fail("No process was started.");
        return 0;
    }

    private static async Task GoneAsync(int process)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (Directory.Exists($"/proc/{process}")
            && !(await File.ReadAllTextAsync($"/proc/{process}/status", TestContext.Current.CancellationToken)).Contains("State:\tZ", StringComparison.Ordinal))
        {
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), "It is left behind.");
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }
    }

    /// <summary>What a shard came to, and whether a trial of it is known to kill its process.</summary>
    private sealed record Computed(IReadOnlyList<TrialOutcome> Outcomes, bool Kills);

    private sealed class InPlace : IFileLibrary
    {
        public LocatedFiles Locate(InstanceSpec instance, CancellationToken cancellation) => LocatedFiles.InPlace;
    }

    private sealed class NoReferences : IReferenceLibrary
    {
        public ReferenceRecord? Find(Guid instanceKey, CancellationToken cancellation) => null;
    }
}
