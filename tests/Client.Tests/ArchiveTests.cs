using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;
using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Client.Tests;

/// <summary>Sweeps that move from store to store, and single trials that are run again.</summary>
[Collection("silo")]
public sealed class ArchiveTests(StoredSweep stored) : IClassFixture<StoredSweep>
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_is_asked_of_an_imported_sweep_is_answered_as_where_it_came_from()
    {
        string file = await ArchiveAsync("moved.zip");
        (StoreAddress address, Dictionary<string, string?> there) = await StoreAsync();

        // Another sweep first, so that the numbers differ.
        string other = stored.Folder.Write("other.yaml", StoredSweep.Tiny.Replace("name: tiny", "name: other", StringComparison.Ordinal)
            .Replace("n: [32, 64]", "n: [32]", StringComparison.Ordinal));
        (await Cli.RunAsync(there, "run", other)).Expect(ExitCode.Done);
        Ran ran = (await Cli.RunAsync(there, "import", file)).Expect(ExitCode.Done);
        Assert.Contains("Sweep 2, 'tiny': 24 of 24 trials imported; it was sweep 1 of its store.", ran.Out, StringComparison.Ordinal);
        Assert.Contains("experiments show 2", ran.Out, StringComparison.Ordinal);

        foreach (string[] question in (string[][])
            [["show", "ID"], ["show", "ID", "--json"], ["show", "ID", "--source"], ["trace", "ID", "2"], ["trace", "ID", "2", "--json"], ["trace", "ID"],
                ["export", "ID", "--format", "csv"], ["export", "ID", "--format", "json"],
                ["query", "select kernel, degree, count(*), sum(gradient_relative_error) from trials where sweep_id = ID group by 1, 2 order by 1, 2", "--csv"]])
        {
            string before = (await stored.CliAsync(Ask(question, 1))).Expect(ExitCode.Done).Out;
            string after = (await Cli.RunAsync(there, Ask(question, 2))).Expect(ExitCode.Done).Out;
            Assert.NotEmpty(before);
            Assert.Equal(WithoutNumbers(before, question, 1, 1), WithoutNumbers(after, question, 2, await NodeAsync(address, 2)));
        }

        // What was kept of the finished sweep is kept here too, and one row of every kind is a trial's.
        Assert.Equal(await CountAsync(stored.Address, "summary", 1), await CountAsync(address, "summary", 2));
        Assert.NotEqual(0, await CountAsync(address, "summary", 2));

        static string[] Ask(string[] question, int id) =>
            [.. question.Select(word => word.Replace("ID", id.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal))];
    }

    [Fact]
    public async Task A_sweep_that_ran_is_imported_cancelled_and_resume_finishes_it()
    {
        (StoreAddress address, Dictionary<string, string?> there) = await StoreAsync();
        await UndoneAsync(stored.Folder, there, address);
        string file = stored.Folder.File("undone.zip");
        Ran exported = (await Cli.RunAsync(there, "export", "1", "--archive", file)).Expect(ExitCode.Done);
        Assert.Equal("", exported.Out);
        Assert.Contains("running: 18 of 24 trials", exported.Error, StringComparison.Ordinal);

        (_, Dictionary<string, string?> elsewhere) = await StoreAsync();
        Ran imported = (await Cli.RunAsync(elsewhere, "import", file)).Expect(ExitCode.Done);
        Assert.Contains("18 of 24 trials imported", imported.Out, StringComparison.Ordinal);
        Assert.Contains("Here it is cancelled, so that nobody starts it by surprise.", imported.Out, StringComparison.Ordinal);
        Assert.Contains("experiments resume 1", imported.Out, StringComparison.Ordinal);
        Ran resumed = (await Cli.RunAsync(elsewhere, "resume", "1")).Expect(ExitCode.Done);
        Assert.Contains("24 of 24 trials on 8 instances: 24 done, 0 failed, 0 skipped", resumed.Out, StringComparison.Ordinal);

        // The trials that were missing have the digests that they had before.
        const string Digests = "select trial, digest from trials where sweep_id = 1 order by trial";
        Assert.Equal(
            (await stored.CliAsync("query", Digests, "--csv")).Expect(ExitCode.Done).Out,
            (await Cli.RunAsync(elsewhere, "query", Digests, "--csv")).Expect(ExitCode.Done).Out);
    }

    [Fact]
    public async Task An_import_says_what_it_did_to_programs_and_the_same_sweep_is_refused_unless_again()
    {
        string file = await ArchiveAsync("twice.zip");
        (_, Dictionary<string, string?> there) = await StoreAsync();
        JsonNode first = JsonNode.Parse((await Cli.RunAsync(there, "import", file, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal((1, "tiny", "done", "done", 24, 24), ((int)first["sweep_id"]!, (string)first["name"]!, (string)first["state"]!,
            (string)first["archived_state"]!, (int)first["trials"]!, (int)first["stored"]!));
        string refused = (await Cli.RunAsync(there, "import", file)).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("Sweep 1, 'tiny', is the archive's sweep", refused, StringComparison.Ordinal);
        JsonNode second = JsonNode.Parse((await Cli.RunAsync(there, "import", file, "--again", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.NotEqual(1, (int)second["sweep_id"]!);

        // Where it came from, it is there already.
        Assert.Contains("Sweep 1, 'tiny', is the archive's sweep", (await stored.CliAsync("import", file)).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_no_archive_is_one_line_and_starts_no_server()
    {
        string whole = await ArchiveAsync("whole.zip");
        byte[] bytes = await File.ReadAllBytesAsync(whole, Cancellation);
        string cut = stored.Folder.File("cut.zip");
        await File.WriteAllBytesAsync(cut, bytes[..(bytes.Length / 2)], Cancellation);
        string changed = stored.Folder.File("changed.zip");
        bytes[bytes.Length / 3] ^= 1;
        await File.WriteAllBytesAsync(changed, bytes, Cancellation);
        string text = stored.Folder.Write("text.zip", StoredSweep.Tiny);
        string pipe = stored.Folder.File("pipe.zip");
        using (Process made = Process.Start("mkfifo", [pipe]))
        {
            await made.WaitForExitAsync(Cancellation);
        }

        foreach ((string file, string said) in new[]
        {
            (pipe, "is empty, or a pipe or device"), (cut, "is not an archive of a sweep, or is cut short"), (changed, "is damaged"), (text, "is not an archive of a sweep"),
            (stored.Folder.Path, "is a folder"), (stored.Folder.File("nosuch.zip"), "There is no file"),
        })
        {
            // No store is named, and none is started: HOME is nowhere.
            string error = (await Cli.RunAsync("import", file)).ExpectRefusal(ExitCode.Invalid, 1);
            Assert.Contains(said, error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task An_archive_is_written_whole_or_not_at_all()
    {
        Assert.Contains("leave --format and --output out", (await stored.CliAsync("export", "1", "--archive", "x.zip", "--format", "csv"))
            .ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        Assert.Contains("does not exist", (await stored.CliAsync("export", "1", "--archive", stored.Folder.File("nosuch/x.zip"))).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        string file = stored.Folder.File("absent.zip");
        Assert.Contains("There is no sweep '99'", (await stored.CliAsync("export", "99", "--archive", file)).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        Assert.False(File.Exists(file));
        Assert.Empty(Directory.GetFiles(stored.Folder.Path, "*.tmp"));
    }

    [Fact]
    public async Task A_trial_that_is_run_again_has_the_same_bits_and_stores_nothing()
    {
        long rows = await CountAsync(stored.Address, "trial", 1);
        foreach (string trial in (string[])["1/0", "last/2", "tiny/23"])
        {
            Ran ran = (await stored.CliAsync("run", "--trial", trial)).Expect(ExitCode.Done);
            Assert.Contains("The gradient has the same bits.", ran.Out, StringComparison.Ordinal);
            Assert.Contains("time of a call", ran.Out, StringComparison.Ordinal);
        }

        JsonNode json = JsonNode.Parse((await stored.CliAsync("run", "--trial", "1/2", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal("same", (string)json["verdict"]!);
        Assert.True((bool)json["same_digest"]!);
        Assert.Equal("done", (string)json["now"]!["status"]!);
        foreach (string column in (string[])["digest", "loss", "gradient_relative_error", "forward_relative_error", "rank", "bound_measured", "max_logit"])
        {
            Assert.Equal(json["stored"]![column]!.ToJsonString(), json["now"]![column]!.ToJsonString());
        }

        // Paired with exact on the same inputs, as it was.
        Assert.NotNull(json["now"]!["speedup_over_exact"]);
        Assert.NotNull(json["now"]!["seconds_median"]);
        Assert.Equal(rows, await CountAsync(stored.Address, "trial", 1));
        Assert.Equal(1L, await ScalarAsync(stored.Address, "SELECT count(*) FROM experiments.node"));
    }

    [Fact]
    public async Task A_trial_whose_bits_changed_is_a_failure_on_this_device_and_an_answer_from_another()
    {
        string file = await ArchiveAsync("changed-bits.zip");
        (StoreAddress address, Dictionary<string, string?> there) = await StoreAsync();
        (await Cli.RunAsync(there, "import", file)).Expect(ExitCode.Done);
        await ExecuteAsync(address, "UPDATE experiments.trial SET digest = gen_random_uuid() WHERE trial = 2");
        Ran differs = (await Cli.RunAsync(there, "run", "--trial", "1/2")).Expect(ExitCode.SomeFailed);
        Assert.Contains("The gradient's bits differ, on the same build and device class, where they should repeat.", differs.Out, StringComparison.Ordinal);

        await ExecuteAsync(address, """UPDATE experiments.node SET facts = facts || '{"vector_bits": 64, "build": "0.0.1"}'""");
        Ran may = (await Cli.RunAsync(there, "run", "--trial", "1/2")).Expect(ExitCode.Done);
        Assert.Contains("which they may: build 0.0.1 then", may.Out, StringComparison.Ordinal);
        Assert.Contains("vector width 64 then", may.Out, StringComparison.Ordinal);
        JsonNode json = JsonNode.Parse((await Cli.RunAsync(there, "run", "--trial", "1/2", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal("may_differ", (string)json["verdict"]!);
        Assert.Equal(2, json["may_differ_because"]!.AsArray().Count);

        // What was never measured there is nothing to compare with.
        await ExecuteAsync(address, "UPDATE experiments.trial SET status = 'failed', reason = 'it was told to', digest = NULL WHERE trial = 2");
        Ran nothing = (await Cli.RunAsync(there, "run", "--trial", "1/2")).Expect(ExitCode.Done);
        Assert.Contains("no digest to compare with: it was failed then", nothing.Out, StringComparison.Ordinal);

        // A row under another's number is never taken for it.
        await ExecuteAsync(address, "UPDATE experiments.trial SET trial_key = gen_random_uuid() WHERE trial = 2");
        Assert.Contains("expands sweeps differently", (await Cli.RunAsync(there, "run", "--trial", "1/2"))
            .Expect(ExitCode.Invalid).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_trial_that_fails_now_says_why()
    {
        (_, Dictionary<string, string?> there) = await StoreAsync();
        string sweep = stored.Folder.Write("fails.yaml", """
            name: fails
            seed: 1
            instances: {family: uniform, n: 32, d: 4, bound: 8}
            kernels:
              - kernel: low-rank
                basis: taylor
                form: paper
                degree: 3
                precision: [float32]
            measure: {rounds: 1, min_time: 0s}
            """);
        (await Cli.RunAsync(there, "run", sweep)).Expect(ExitCode.SomeFailed);
        Ran ran = (await Cli.RunAsync(there, "run", "--trial", "1/0")).Expect(ExitCode.SomeFailed);
        Assert.Contains("It failed now: ", ran.Out, StringComparison.Ordinal);
        Assert.Contains("not positive", ran.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_needs_a_sweep_or_a_trial_and_not_both()
    {
        Assert.Contains("'experiments run' needs FILE|PRESET", (await Cli.RunAsync("run")).ExpectRefusal(ExitCode.Invalid, 2), StringComparison.Ordinal);
        foreach (string[] line in (string[][])
            [["run", "quickstart", "--trial", "1/2"], ["run", "--trial", "1/2", "--name", "x"], ["run", "--trial", "1/2", "--set", "seed=1"]])
        {
            Assert.Contains("leave FILE|PRESET, --name, --lanes, --set, --priority and --leave-files out", (await Cli.RunAsync(line)).ExpectRefusal(ExitCode.Invalid, 2), StringComparison.Ordinal);
        }

        foreach (string given in (string[])["3", "3/", "/3", "3/x", "3/-1"])
        {
            Assert.Contains("such as 3/17", (await stored.CliAsync("run", "--trial", given)).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        }

        Assert.Contains("no trial 999", (await stored.CliAsync("run", "--trial", "1/999")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        Assert.Contains("There is no sweep '99'", (await stored.CliAsync("run", "--trial", "99/0")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    private async Task<string> ArchiveAsync(string name)
    {
        string file = stored.Folder.File(name);
        Ran ran = (await stored.CliAsync("export", "1", "--archive", file)).Expect(ExitCode.Done);
        Assert.Equal("", ran.Out);
        Assert.Contains("24 of 24 trials", ran.Error, StringComparison.Ordinal);
        return file;
    }

    private static async Task<(StoreAddress Address, Dictionary<string, string?> Environment)> StoreAsync()
    {
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        return (address, new Dictionary<string, string?> { ["EXPERIMENTS_POSTGRES"] = address.Owner });
    }

    /// <summary>A sweep that runs as far as the store knows: two of its instances, a shard, are not stored yet and leased to a process that is gone.</summary>
    private static async Task UndoneAsync(TemporaryFolder folder, Dictionary<string, string?> store, StoreAddress address)
    {
        (await Cli.RunAsync(store, "run", folder.Write("undone.yaml", StoredSweep.Tiny))).Expect(ExitCode.Done);
        await ExecuteAsync(address, """
            DELETE FROM experiments.summary;
            UPDATE experiments.shard SET trials = 18, end_instance = 6, trials_done = 18 WHERE number = 0;
            INSERT INTO experiments.shard (sweep_id, number, epoch, node_id, first_instance, end_instance, first_trial, predicted_seconds, trials, state, lease_until)
                SELECT 1, 1, 3, node_id, 6, 8, 18, 1, 6, 'leased', now() FROM experiments.shard WHERE number = 0;
            DELETE FROM experiments.sample WHERE trial >= 18;
            DELETE FROM experiments.trial WHERE trial >= 18;
            UPDATE experiments.sweep SET state = 'running', finished_at = NULL, shards = 2, shards_left = 1, trials_done = 18;
            """);
    }

    private static async Task<int> NodeAsync(StoreAddress address, long sweep) =>
        (int)(await ScalarAsync(address, $"SELECT min(node_id) FROM experiments.trial WHERE sweep_id = {sweep}"))!;

    /// <summary>An answer without the sweep's and the node's numbers, which are others in another store. "experiments trace 1" is a command;
    /// "trace 1e87…" is a trace's identity, which stays.</summary>
    private static string WithoutNumbers(string answer, string[] question, int sweep, int node)
    {
        if (question[0] == "export" && question[^1] == "csv")
        {
            string[] lines = answer.Split('\n');
            int place = Array.IndexOf(lines[0].Split(','), "node_id");
            return string.Join('\n', lines.Skip(1).Where(l => l.Length > 0).Select(l => string.Join(',', Csv(l).Select((f, i) => i == 0 || i == place ? "#" : f))));
        }

        return answer
            .Replace($"Sweep {sweep}", "Sweep #", StringComparison.Ordinal).Replace($"\"sweep_id\": {sweep}", "\"sweep_id\": #", StringComparison.Ordinal)
            .Replace($"\"node_id\": {node}", "\"node_id\": #", StringComparison.Ordinal)
            .Replace($"\"sweep_id\":{sweep},", "\"sweep_id\":#,", StringComparison.Ordinal).Replace($"\"node_id\":{node},", "\"node_id\":#,", StringComparison.Ordinal)
            .Replace($"experiments trace {sweep}", "experiments trace #", StringComparison.Ordinal).Replace($"show {sweep}", "show #", StringComparison.Ordinal)
            .Replace($"export {sweep}", "export #", StringComparison.Ordinal)
            .Replace($"sweep-{sweep}.", "sweep-#.", StringComparison.Ordinal)
            .Replace($"sweep_id = {sweep}", "sweep_id = #", StringComparison.Ordinal);
    }

    private static IEnumerable<string> Csv(string line) =>
        System.Text.RegularExpressions.Regex.Matches(line, "(?:^|,)(\"(?:[^\"]|\"\")*\"|[^,]*)").Select(m => m.Groups[1].Value);

    private static async Task<long> CountAsync(StoreAddress address, string table, long sweep) =>
        (long)(await ScalarAsync(address, $"SELECT count(*) FROM experiments.{table} WHERE sweep_id = {sweep}"))!;

    private static async Task<object?> ScalarAsync(StoreAddress address, string sql)
    {
        await using NpgsqlConnection connection = new(address.Owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        return await command.ExecuteScalarAsync(Cancellation);
    }

    private static async Task ExecuteAsync(StoreAddress address, string sql)
    {
        await using NpgsqlConnection connection = new(address.Owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        await command.ExecuteNonQueryAsync(Cancellation);
    }
}
