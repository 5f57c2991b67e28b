using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Client.Tests.Driving;
using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Client.Tests;

// Silos and servers of several tests at once would only slow each other down.
[Collection("silo")]
public sealed class SweepRunTests : IAsyncLifetime
{
    private readonly TemporaryFolder _folder = new();
    private readonly Dictionary<string, string?> _environment = [];

    public async ValueTask InitializeAsync()
    {
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        _environment["EXPERIMENTS_POSTGRES"] = address.Owner;
    }

    public ValueTask DisposeAsync()
    {
        _folder.Dispose();
        return ValueTask.CompletedTask;
    }

    /// <summary>The preset's prediction, and what it says that was seen.</summary>
    [Fact]
    public async Task The_losses_of_the_preset_of_formulas_lie_on_either_side_of_an_eighth_and_none_near_it()
    {
        (await Cli.RunAsync(_environment, "run", "satisfiability")).Expect(ExitCode.Done);
        Assert.Contains("\"24 0 0, 16 8 0, 18 6 0\"", await RowsAsync("""
            select string_agg(format('%s %s %s', yes, no, neither), ', ' order by n) from (
                select n, count(*) filter (where loss > 2.0 / 9) yes, count(*) filter (where loss < 1.0 / 16) no, count(*) filter (where loss between 1.0 / 16 and 2.0 / 9) neither
                from trials where kernel = 'exact' and (parameters->>'lambda')::float = 1 group by n) counts
            """), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_table_tells_the_degrees_that_were_chosen_what_was_predicted_of_them_and_what_threads_brought()
    {
        string file = _folder.Write("chosen.yaml", """
            name: chosen
            instances: {family: uniform, n: [32, 48], d: 2, bound: [0.1, 1]}
            kernels:
              - {kernel: exact, precision: float64}
              - {kernel: low-rank, degree: auto, tolerance: 1e-6, precision: float64, threads: [1, 2]}
            measure: {rounds: 1, min_time: 0s}
            """);
        string table = (await Cli.RunAsync(_environment, "run", file)).Expect(ExitCode.Done).Out;
        JsonNode json = JsonNode.Parse((await Cli.RunAsync(_environment, "show", "1", "--json")).Expect(ExitCode.Done).Out)!;
        JsonNode two = Assert.Single(json["kernels"]!.AsArray(), k => (string)k!["kernel"]! == "low-rank" && (int)k["threads"]! == 2)!;
        (int least, int most) = ((int)two["fitted_degree_min"]!, (int)two["fitted_degree_max"]!);
        Assert.True(least < most);
        Assert.InRange((double)two["predicted_error_max"]!, 1e-12, 1e-6);
        Assert.Equal(4, (int)two["thread_pairs"]!);
        Assert.NotEqual((double)two["speedup"]!, (double)two["thread_speedup"]!);

        string[] lines = table.Split('\n');
        string head = Assert.Single(lines, l => l.Contains("chosen degree", StringComparison.Ordinal));
        string Cell(string kernel, string column) =>
            Cells(Assert.Single(lines, l => l.TrimStart().StartsWith(kernel, StringComparison.Ordinal) && Cells(l).Length == Cells(head).Length))[Array.IndexOf(Cells(head), column)];
        const string Two = "low-rank degree auto tolerance 1e-6 2 threads";
        Assert.Equal($"{least} to {most}", Cell(Two, "chosen degree"));
        Assert.Equal(Format.Number((double)two["predicted_error_max"]!), Cell(Two, "predicted error"));
        Assert.Equal(Format.Number((double)two["error_median"]!), Cell(Two, "median error"));
        Assert.Equal(Format.Number((double)two["thread_speedup"]!) + "x", Cell(Two, "over 1 thread"));
        Assert.Equal("-", Cell("low-rank degree auto tolerance 1e-6 1 thread ", "over 1 thread"));
        Assert.Equal("-", Cell("exact", "chosen degree"));

        // What is fitted has no degree of its own, and is in the tables of errors and of speed-ups all the same.
        Assert.Contains("Median relative error of the gradient by bound", table, StringComparison.Ordinal);

        static string[] Cells(string line) => line.Split("  ", StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
    }

    [Fact]
    public async Task Failed_and_skipped_trials_are_grouped_by_reason_and_can_be_retried()
    {
        // An odd Taylor polynomial far outside its range gives row sums that are not positive; 2 MiB hold the dense
        // logits of reference back, and nothing else.
        string file = _folder.Write("failing.yaml", """
            name: failing
            seed: 1
            instances: {family: uniform, n: 512, d: 4, bound: 12, repeats: 2}
            kernels:
              - kernel: low-rank
                degree: [1, 3]
                basis: taylor
                precision: [float64]
              - kernel: reference
                precision: [float64]
            measure: {rounds: 1, min_time: 0s}
            limits: {memory: 2MiB}
            """);
        Ran ran = (await Cli.RunAsync(_environment, "run", file, "--json")).Expect(ExitCode.SomeFailed);
        JsonNode json = JsonNode.Parse(ran.Out)!;
        Assert.Equal("done", (string)json["state"]!);
        Assert.Equal(6, (int)json["done"]! + (int)json["failed"]! + (int)json["skipped"]!);
        Assert.True((int)json["failed"]! > 0, ran.ToString());
        Assert.True((int)json["skipped"]! > 0, ran.ToString());
        JsonNode skipped = json["failures"]!.AsArray().First(f => (string)f!["status"]! == "skipped")!;
        Assert.Contains("limit", (string)skipped["example_reason"]!, StringComparison.Ordinal);

        int failures = (int)json["failed"]!;
        int skips = (int)json["skipped"]!;
        string before = await RowsAsync("select trial, status, epoch, started_at, digest, seconds_median from trials where status <> 'skipped' order by trial");
        Ran again = (await Cli.RunAsync(_environment, "retry", "last", "--skipped")).Expect(ExitCode.SomeFailed);
        Assert.Contains($"{skips} trials of sweep 1 are put back; {failures} failed: --failed puts those back.", again.Error, StringComparison.Ordinal);
        Assert.Contains("Failed and skipped", again.Out, StringComparison.Ordinal);
        Assert.Equal(before, await RowsAsync("select trial, status, epoch, started_at, digest, seconds_median from trials where status <> 'skipped' order by trial"));

        // What failed is left for silos, of which there are none, and is then run here.
        JsonNode left = JsonNode.Parse((await Cli.RunAsync(_environment, "retry", "1", "--failed", "--submit", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal((failures, 0, "running"), ((int)left["put_back"]!, (int)left["failed"]!, (string)left["state"]!));
        Assert.Contains("waits for silos", (await Cli.RunAsync(_environment, "resume", "1", "--submit")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
        (await Cli.RunAsync(_environment, "resume", "1")).Expect(ExitCode.SomeFailed);
        Assert.Equal($"{failures}/{skips}", (string)JsonNode.Parse(await RowsAsync(
            "select count(*) filter (where status = 'failed') || '/' || count(*) filter (where status = 'skipped') as c from trial_attempt"))![0]!["c"]!);
        JsonNode rows = JsonNode.Parse((await Cli.RunAsync(_environment, "query", "select count(*) as n, count(distinct trial) as d from trials", "--json")).Out)!;
        Assert.Equal(6, (int)rows[0]!["n"]!);
        Assert.Equal(6, (int)rows[0]!["d"]!);
    }

    [Fact]
    public async Task A_sweep_file_is_refused_before_the_store_is_touched()
    {
        string file = _folder.Write("bad.yaml", StoredSweep.Tiny.Replace("degree:", "degre:", StringComparison.Ordinal)
            .Replace("repeats: 2", "repeats: 0", StringComparison.Ordinal));
        Dictionary<string, string?> nowhere = new() { ["EXPERIMENTS_POSTGRES"] = "Host=/nonexistent;Username=u;Password=s3cret" };
        foreach (string verb in (string[])["run", "plan"])
        {
            string error = (await Cli.RunAsync(nowhere, verb, file)).ExpectRefusal(ExitCode.Invalid, 6);
            Assert.Contains("bad.yaml:", error, StringComparison.Ordinal);
            Assert.Contains("'degree'", error, StringComparison.Ordinal);
            Assert.Contains("repeats", error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_sweep_that_is_not_to_be_traced_leaves_no_span_not_even_the_commands_own()
    {
        string file = _folder.Write("untraced.yaml", StoredSweep.Tiny);
        foreach ((string sampler, long commands) in ((string, long)[])[("always_off", 0), ("always_on", 1)])
        {
            (await Cli.RunAsync(new Dictionary<string, string?>(_environment) { ["OTEL_TRACES_SAMPLER"] = sampler }, "run", file)).Expect(ExitCode.Done);
            JsonNode rows = JsonNode.Parse(await RowsAsync("select count(*) filter (where name = 'experiments run') as commands, count(*) as spans from spans"))!;
            Assert.Equal(commands, (long)rows[0]!["commands"]!);
            Assert.Equal(commands == 0, (long)rows[0]!["spans"]! == 0);
        }
    }

    [Fact]
    public async Task An_unknown_preset_gets_the_list()
    {
        string error = (await Cli.RunAsync(_environment, "run", "quickstrat")).ExpectRefusal(ExitCode.Invalid, 2);
        Assert.Contains("no file and no preset 'quickstrat'", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_unreachable_store_is_exit_4_and_tells_no_password()
    {
        string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
        Dictionary<string, string?> nowhere = new()
        {
            ["EXPERIMENTS_POSTGRES"] = "Host=127.0.0.1;Port=1;Username=u;Password=s3cret;Database=x;Timeout=2",
        };
        foreach (string[] args in (string[][])[["run", file], ["list"], ["show", "1"], ["query", "select 1"], ["watch", "1"]])
        {
            string error = (await Cli.RunAsync(nowhere, args)).ExpectRefusal(ExitCode.StoreUnreachable, 3);
            Assert.DoesNotContain("s3cret", error, StringComparison.Ordinal);
            Assert.Contains("127.0.0.1", error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task What_is_nested_without_end_is_refused_and_ends_no_process()
    {
        // A stack that overflows takes the process with it, this one too: so it is another's.
        string tiny = _folder.Write("tiny.yaml", StoredSweep.Tiny), deep = _folder.Write("deep.yaml", "name: " + new string('[', 100_000));
        foreach ((string?[] given, string needed) in ((string?[], string)[])
            [
                ([null, "plan", deep, "--set", "seed=1"], "nested deeper than 64 levels"),
                ([null, "plan", tiny, "--set", "instances.n=" + new string('[', 50_000)], "nested deeper than 64 levels"),
                ([null, "plan", tiny, "--set", string.Concat(Enumerable.Repeat("a.", 30_000)) + "b=1"], "a key of 30001 parts"),
                ([deep, "plan", tiny], "nested deeper than 64 levels"),
            ])
        {
            Dictionary<string, string?> environment = new(_environment) { ["EXPERIMENTS_CONFIG"] = given[0] };
            Assert.Contains(
                needed, (await ClientProcess.RunAsync(environment, [.. given.Skip(1).Select(g => g!)])).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("tiny.yaml", "instances.n=8 instances.n=16", "gives instances.n twice, 'instances.n=8' and 'instances.n=16'")]
    [InlineData("empty.yaml", "seed=1", "The file is empty")]
    [InlineData("tiny.yaml", "instances.n=2147483647", "beyond what can be counted")]
    [InlineData("tiny.yaml", "instances.d=100000", "hold")]
    public async Task What_cannot_be_set_is_refused_in_a_line(string file, string changes, string needed)
    {
        string path = _folder.Write(file, file == "empty.yaml" ? "" : StoredSweep.Tiny);
        string[] set = [.. changes.Split(' ').SelectMany(c => (string[])["--set", c])];
        string error = (await Cli.RunAsync(_environment, ["plan", path, .. set])).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains(needed, error, StringComparison.Ordinal);
        Assert.DoesNotContain("to 0 at most", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_collector_that_nobody_runs_gets_one_line_whoever_named_it(bool inFile)
    {
        const string Nobody = "http://me:hidden@127.0.0.1:9";
        string source = inFile ? _folder.Write("config.yaml", $"otlp_endpoint: {Nobody}") : "OTEL_EXPORTER_OTLP_ENDPOINT";
        Ran ran = (await ClientProcess.RunAsync(
            new Dictionary<string, string?>(_environment) { [inFile ? "EXPERIMENTS_CONFIG" : source] = inFile ? source : Nobody },
            "run", _folder.Write("tiny.yaml", StoredSweep.Tiny))).Expect(ExitCode.Done);
        Assert.Contains($"reached the collector at 'http://me:***@127.0.0.1:9' ({source}): ", Assert.Single(ran.ErrorLines, l => l.Contains("collector")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("two\nlines")]
    [InlineData("\u001b[31mred")]
    [InlineData(null)]
    public async Task A_name_from_the_command_line_keeps_the_files_rule(string? name)
    {
        string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
        string error = (await Cli.RunAsync(_environment, "run", file, "--name", name ?? new string('x', 201))).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("1 to 200 characters on one line are needed", error, StringComparison.Ordinal);
        Assert.Equal("[]", (await Cli.RunAsync(_environment, "list", "--json")).Out.Trim());
    }

    [Fact]
    public async Task What_is_no_connection_string_is_the_users_own_mistake()
    {
        string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
        foreach (string[] args in (string[][])[["run", file], ["plan", file], ["list"], ["query", "select 1"], ["database"]])
        {
            string error = (await Cli.RunAsync([.. args, "--postgres", "Host=h;Prot=5"])).ExpectRefusal(ExitCode.Invalid, 1);
            Assert.Contains("no setting 'Prot'. Did you mean 'Port'?", error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Plan_counts_and_starts_no_server()
    {
        string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
        Ran ran = (await Cli.RunAsync("plan", file, "--json")).Expect(ExitCode.Done);
        JsonNode json = JsonNode.Parse(ran.Out)!;
        Assert.Equal(24, (int)json["trials"]!);
        Assert.Equal(8, (int)json["instances"]!);
        Assert.Equal([8, 16], json["kernels"]!.AsArray().Select(k => (int)k!["trials"]!));
        Assert.Contains("24", (await Cli.RunAsync("plan", file)).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Set_changes_one_value_and_is_checked_like_the_file()
    {
        string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
        JsonNode json = JsonNode.Parse((await Cli.RunAsync(
            "plan", file, "--set", "instances.repeats=5", "--set", "kernels.1.degree=[1,2,3]", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal(4 * 5 * 4, (int)json["trials"]!);
        Assert.Contains("Did you mean", (await Cli.RunAsync("plan", file, "--set", "measure.round=3")).ExpectRefusal(ExitCode.Invalid, 2), StringComparison.Ordinal);
        Assert.Contains("key=value", (await Cli.RunAsync("plan", file, "--set", "nonsense")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        Assert.Contains("must number one of 2", (await Cli.RunAsync("plan", file, "--set", "kernels.7.degree=1")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_sweep_that_was_cancelled_goes_on_with_resume()
    {
        string file = _folder.Write("slow.yaml", Slow(40));
        using ClientProcess run = ClientProcess.Start(_environment, "run", file);
        await run.SaysAsync("Sweep 1");
        Assert.Contains("is cancelled", (await Cli.RunAsync(_environment, "cancel", "last")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
        Ran ran = (await run.EndAsync()).Expect(ExitCode.Interrupted);
        Assert.Contains("experiments resume 1", ran.Error, StringComparison.Ordinal);
        (await Cli.RunAsync(_environment, "resume", "1")).Expect(ExitCode.Done);
        await ExpectWholeAsync(_environment, 1, 80);
    }

    [Fact]
    public async Task A_run_is_stopped_from_another_terminal_in_the_midst_of_a_kernel()
    {
        // One call of the only trial takes minutes.
        string file = _folder.Write("long.yaml", """
            name: long
            seed: 3
            instances: {family: uniform, n: 262144, d: 16, bound: 1}
            kernels: [{kernel: exact, precision: float64}]
            measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none}
            """);
        using ClientProcess run = ClientProcess.Start(_environment, "run", file);
        await run.SaysAsync("Sweep 1");
        for (int i = 0; i < 600 && await LeasedAsync() == 0; i++)
        {
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }

        JsonNode json = JsonNode.Parse((await Cli.RunAsync(_environment, "cancel", "last", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal(("cancelled", 0), ((string)json["state"]!, (int)json["done"]!));
        Ran ran = (await run.EndAsync()).Expect(ExitCode.Interrupted);
        Assert.Contains("Sweep 1 was cancelled: 0 of 1 trials", ran.Error, StringComparison.Ordinal);
        Assert.Equal(0, await LeasedAsync());

        async Task<int> LeasedAsync() => (int)JsonNode.Parse(
            (await Cli.RunAsync(_environment, "query", "select shards_leased from sweep_progress", "--json")).Expect(ExitCode.Done).Out)![0]!["shards_leased"]!;
    }

    [Fact]
    public async Task An_extension_runs_what_is_new_and_leaves_the_rest_as_it_was()
    {
        string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
        (await Cli.RunAsync(_environment, "run", file)).Expect(ExitCode.Done);
        const string Old = "select t.*, s.seconds from trial t join sample s using (sweep_id, trial) where sweep_id = 1 and trial < 24 order by trial";
        string before = await RowsAsync(Old);
        string[] more = ["--set", "instances.repeats=3", "--set", "kernels.1.degree=[2,3,4]"];
        Ran ran = (await Cli.RunAsync(_environment, ["extend", "1", .. more])).Expect(ExitCode.Done);
        Assert.Contains("24 trials on 12 instances are added to the 24 of sweep 1.", ran.Error, StringComparison.Ordinal);
        Assert.Contains("48 of 48 trials on 12 instances: 48 done, 0 failed, 0 skipped", ran.Out, StringComparison.Ordinal);
        Assert.Equal(before, await RowsAsync(Old));
        await ExpectWholeAsync(_environment, 1, 48);
        Assert.Equal("[{\"n\":0}]", Compact(await RowsAsync("select count(*) as n from trials where kernel <> 'exact' and speedup_over_exact is null")));
        JsonNode again = JsonNode.Parse((await Cli.RunAsync(_environment, "run", "--trial", "1/30", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal("same", (string)again["verdict"]!);
        Assert.Contains("repeats: 3", (await Cli.RunAsync(_environment, "show", "1", "--source")).Out, StringComparison.Ordinal);
        Assert.Contains("has all 48 trials", (await Cli.RunAsync(_environment, ["extend", "1", .. more])).Expect(ExitCode.Done).Error, StringComparison.Ordinal);

        // It moves as it is, and is extended there by a file, for silos that come later.
        (await Cli.RunAsync(_environment, "export", "1", "--archive", _folder.File("s.zip"))).Expect(ExitCode.Done);
        (await Cli.RunAsync(_environment, "import", _folder.File("s.zip"), "--again")).Expect(ExitCode.Done);
        string longer = _folder.Write("longer.yaml", StoredSweep.Tiny.Replace("repeats: 2", "repeats: 3", StringComparison.Ordinal)
            .Replace("degree: [2, 4]", "degree: [1, 2, 3, 4]", StringComparison.Ordinal).Replace("bound: [0.5, 2]", "bound: [0.25, 0.5, 2]", StringComparison.Ordinal));
        JsonNode left = JsonNode.Parse((await Cli.RunAsync(_environment, "extend", "2", longer, "--submit", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal((18 * 5 - 48, 90, 48, "running"), ((int)left["added"]!, (int)left["trials"]!, (int)left["done"]!, (string)left["state"]!));
        (await Cli.RunAsync(_environment, "resume", "2")).Expect(ExitCode.Done);
        await ExpectWholeAsync(_environment, 2, 90);
    }

    [Fact]
    public async Task What_is_no_extension_is_refused_in_a_line_and_changes_nothing()
    {
        (await Cli.RunAsync(_environment, "submit", _folder.Write("tiny.yaml", StoredSweep.Tiny))).Expect(ExitCode.Done);
        foreach ((string set, string said) in ((string, string)[])
        [
            ("instances.n=[32]", "instances.n lacks 64"), ("measure.rounds=3", "measure.rounds is 3 and was 2"), ("seed=1", "seed is 1 and was 7"),
            ("instances.repeats=1", "instances.repeats is 1"), ("kernels.1.degree=2", "kernels.1.degree lacks 4"), ("kernels.1.degre=2", "'degre'"),
            ("instances.repeats", "key=value"),
        ])
        {
            Assert.Contains(said, (await Cli.RunAsync(_environment, "extend", "1", "--set", set)).ExpectRefusal(ExitCode.Invalid, 2), StringComparison.Ordinal);
        }

        Assert.Contains("a longer FILE, or --set", (await Cli.RunAsync(_environment, "extend", "1")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        Assert.Contains("no file and no preset", (await Cli.RunAsync(_environment, "extend", "1", "nosuch.yaml")).ExpectRefusal(ExitCode.Invalid, 2), StringComparison.Ordinal);
        Assert.Contains("There is no sweep '9'", (await Cli.RunAsync(_environment, "extend", "9", "--set", "seed=1")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        Assert.Equal("[{\"trials\":24,\"f\":[]}]", Compact(await RowsAsync("select trials, former_specifications as f from sweep")));
    }

    [Fact]
    public async Task A_sweeps_priority_is_set_when_it_is_made_and_when_it_goes_on_and_is_shown()
    {
        string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
        (await Cli.RunAsync(_environment, "submit", file)).Expect(ExitCode.Done);
        Assert.DoesNotContain("priority", (await Cli.RunAsync(_environment, "list")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
        (await Cli.RunAsync(_environment, "submit", file, "--priority", "-7")).Expect(ExitCode.Done);
        (await Cli.RunAsync(_environment, "submit", file)).Expect(ExitCode.Done);
        (await Cli.RunAsync(_environment, "resume", "1", "--submit", "--priority", "12")).Expect(ExitCode.Done);

        // What says nothing of it leaves it as it is.
        (await Cli.RunAsync(_environment, "resume", "1", "--submit")).Expect(ExitCode.Done);
        (await Cli.RunAsync(_environment, "extend", "3", "--set", "instances.repeats=3", "--submit", "--priority", "100")).Expect(ExitCode.Done);
        JsonArray listed = JsonNode.Parse((await Cli.RunAsync(_environment, "list", "--json")).Expect(ExitCode.Done).Out)!.AsArray();
        Assert.Equal([100, -7, 12], listed.Select(s => (int)s!["priority"]!));
        Assert.Equal(12, (int)JsonNode.Parse((await Cli.RunAsync(_environment, "show", "1", "--json")).Expect(ExitCode.Done).Out)!["priority"]!);
        string[] table = (await Cli.RunAsync(_environment, "list")).Expect(ExitCode.Done).Out.ReplaceLineEndings("\n").Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Contains(table, l => l.EndsWith(" priority", StringComparison.Ordinal));
        Assert.Equal(["100", "-7", "12"], table[^3..].Select(l => l.Split(' ')[^1]));
    }

    private static string Compact(string json) => JsonNode.Parse(json)!.ToJsonString();

    [Fact]
    public async Task A_watch_in_another_process_follows_a_run_to_its_end()
    {
        string file = _folder.Write("slow.yaml", Slow(60));
        using ClientProcess run = ClientProcess.Start(_environment, "run", file);
        await run.SaysAsync("Sweep 1");
        using ClientProcess watch = ClientProcess.Start(_environment, "watch", "last");
        using ClientProcess json = ClientProcess.Start(_environment, "watch", "1", "--json");
        await watch.SaysAsync("of 120 trials");
        Ran watched = (await watch.EndAsync()).Expect(ExitCode.Done);
        Assert.Contains("Sweep 1 is done: 120 of 120 trials, 0 failed, 0 skipped.", watched.Out, StringComparison.Ordinal);
        Assert.Contains("experiments show 1", watched.Out, StringComparison.Ordinal);
        JsonNode end = JsonNode.Parse((await json.EndAsync()).Expect(ExitCode.Done).Out)!;
        Assert.Equal("done", (string)end["state"]!);
        Assert.Equal(120, (int)end["done"]!);
        (await run.EndAsync()).Expect(ExitCode.Done);
    }

    [Fact]
    public async Task A_plan_knows_what_is_stored_and_what_would_be_skipped()
    {
        string file = _folder.Write("tiny.yaml", StoredSweep.Tiny);
        JsonNode before = JsonNode.Parse((await Cli.RunAsync(_environment, "plan", file, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal(0, (int)before["references_stored"]!);
        Assert.Equal(8, (int)before["references_looked_for"]!);
        (await Cli.RunAsync(_environment, "run", file)).Expect(ExitCode.Done);

        // Those of such small instances are not worth storing; here they are.
        await using (NpgsqlConnection connection = new(_environment["EXPERIMENTS_POSTGRES"]))
        {
            await connection.OpenAsync(TestContext.Current.CancellationToken);
            await using NpgsqlCommand command = new(
                "INSERT INTO experiments.reference SELECT DISTINCT instance_key, 1, 1, 1, 1, now(), ''::bytea, ''::bytea FROM experiments.trial "
                + "ON CONFLICT DO NOTHING",
                connection);
            await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
        }

        Assert.Contains("8 of 8 are stored already", (await Cli.RunAsync(_environment, "plan", file)).Expect(ExitCode.Done).Out, StringComparison.Ordinal);

        // A hundred gigabytes are more than most machines have; the sweep names no limit.
        JsonNode large = JsonNode.Parse((await Cli.RunAsync(
            "plan", file, "--set", "instances.n=2097152", "--set", "instances.d=1000", "--set", "kernels=[{kernel: exact}]", "--json"))
            .Expect(ExitCode.Done).Out)!;
        bool over = (long)large["largest_bytes"]! > (long)large["memory_limit_bytes"]!;
        Assert.True((long)large["memory_limit_bytes"]! > 0);
        Assert.Equal(over ? (long)large["trials"]! : 0, (long)large["trials_over_memory"]!);
        Assert.Null(large["references_stored"]);
    }

    [Theory]
    [InlineData("INT", "Sweep 1")]
    [InlineData("INT", "of 120 trials")]
    [InlineData("TERM", "of 120 trials")]
    public async Task A_signal_leaves_a_sweep_that_resume_finishes(string signal, string after)
    {
        string file = _folder.Write("slow.yaml", Slow(60));
        using ClientProcess run = ClientProcess.Start(_environment, "run", file);
        await run.SaysAsync(after);
        run.Signal(signal);
        Ran ran = (await run.EndAsync()).Expect(ExitCode.Interrupted);
        Assert.Contains("Ctrl-C again stops now", ran.Error, StringComparison.Ordinal);
        Assert.Contains("experiments resume 1", ran.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", ran.Error, StringComparison.Ordinal);
        (await ClientProcess.RunAsync(_environment, "resume", "1")).Expect(ExitCode.Done);
        await ExpectWholeAsync(_environment, 1, 120);
    }

    [Fact]
    public async Task Two_signals_stop_at_once_and_lose_nothing_that_was_stored()
    {
        string file = _folder.Write("slow.yaml", Slow(60));
        using ClientProcess run = ClientProcess.Start(_environment, "run", file);
        await run.SaysAsync("of 120 trials");
        run.Signal("INT");
        await run.SaysAsync("Ctrl-C again");
        run.Signal("INT");
        (await run.EndAsync()).Expect(ExitCode.Interrupted);
        (await ClientProcess.RunAsync(_environment, "resume", "1")).Expect(ExitCode.Done);
        await ExpectWholeAsync(_environment, 1, 120);
    }

    [Fact]
    public async Task Killed_at_any_moment_and_resumed_a_sweep_is_the_same_as_undisturbed()
    {
        string file = _folder.Write("slow.yaml", Slow(40));
        (await Cli.RunAsync(_environment, "run", file, "--name", "undisturbed")).Expect(ExitCode.Done);
        int seed = Environment.TickCount;
        Random random = new(seed);
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        using (ClientProcess run = ClientProcess.Start(_environment, "run", file))
        {
            await run.SaysAsync("Sweep 2");
            await Task.Delay(random.Next(0, 1500), TestContext.Current.CancellationToken);
            run.Signal("KILL");
            await run.EndAsync();
        }

        for (int kill = 0; kill < 3; kill++)
        {
            using ClientProcess resume = ClientProcess.Start(_environment, "resume", "2");
            await Task.Delay(random.Next(200, 3000), TestContext.Current.CancellationToken);
            resume.Signal("KILL");
            await resume.EndAsync();
        }

        (await ClientProcess.RunAsync(_environment, "resume", "2")).Expect(ExitCode.Done);
        await ExpectWholeAsync(_environment, 2, 80);
        JsonNode different = JsonNode.Parse((await Cli.RunAsync(_environment, "query",
            "select count(*) as n from trials a full join trials b on b.trial = a.trial and b.sweep_id = 2 and b.digest = a.digest "
            + "and b.trial_key = a.trial_key where a.sweep_id = 1 and b.trial is null", "--json")).Out)!;
        Assert.Equal(0, (int)different[0]!["n"]!);
    }

    private async Task<string> RowsAsync(string sql) => (await Cli.RunAsync(_environment, "query", sql, "--json")).Expect(ExitCode.Done).Out;

    // Some 20 ms a trial, in shards of a few instances each.
    private static string Slow(int repeats) => $$"""
        name: slow
        seed: 3
        instances: {family: gaussian, n: 128, d: 4, bound: 1, repeats: {{repeats}}}
        kernels:
          - kernel: exact
            precision: [float32]
          - kernel: low-rank
            degree: 2
            precision: [float32]
        measure: {rounds: 2, min_time: 40ms, max_noise: 0}
        """;

    private static async Task ExpectWholeAsync(Dictionary<string, string?> environment, int sweep, int trials)
    {
        JsonNode json = JsonNode.Parse((await Cli.RunAsync(environment, "query",
            $"select count(*) as n, count(distinct trial) as d, count(distinct trial_key) as k, min(trial) as low, max(trial) as high from trials where sweep_id = {sweep}",
            "--json")).Out)!;
        Assert.Equal(trials, (int)json[0]!["n"]!);
        Assert.Equal(trials, (int)json[0]!["d"]!);
        Assert.Equal(trials, (int)json[0]!["k"]!);
        Assert.Equal(0, (int)json[0]!["low"]!);
        Assert.Equal(trials - 1, (int)json[0]!["high"]!);
    }
}
