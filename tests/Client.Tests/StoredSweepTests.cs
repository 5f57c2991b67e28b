using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;
using Parquet;
using Parquet.Schema;

namespace Experiments.Client.Tests;

// Silos and servers of several tests at once would only slow each other down.
[Collection("silo")]
public sealed class StoredSweepTests(StoredSweep stored) : IClassFixture<StoredSweep>
{
    private const int Trials = 24;

    [Fact]
    public void A_run_answers_its_question_and_says_what_to_do_next()
    {
        stored.Run.Expect(ExitCode.Done);
        string text = stored.Run.Out;
        Assert.Contains("Sweep 1, tiny: done", text, StringComparison.Ordinal);
        Assert.Contains("Does the error fall with the degree?", text, StringComparison.Ordinal);
        Assert.Contains("24 of 24 trials on 8 instances: 24 done, 0 failed, 0 skipped", text, StringComparison.Ordinal);
        Assert.Contains("low-rank degree 2", text, StringComparison.Ordinal);
        Assert.Contains("by bound", text, StringComparison.Ordinal);
        Assert.Contains("Speed-up over exact by n", text, StringComparison.Ordinal);
        Assert.Contains("experiments export 1 --format csv", text, StringComparison.Ordinal);
        Assert.Contains("24 trials", stored.Run.Error, StringComparison.Ordinal);
        Assert.All(text, c => Assert.True(c is '\n' or (>= ' ' and <= '~'), $"'{c}' is not plain ASCII"));
    }

    [Fact]
    public async Task The_readmes_queries_find_rows()
    {
        Assert.NotEmpty(ReadmeTests.Queries);
        foreach (string sql in ReadmeTests.Queries)
        {
            Ran ran = (await stored.CliAsync("query", sql, "--json")).Expect(ExitCode.Done);
            Assert.NotEqual("[]", ran.Out.Trim());
        }
    }

    [Fact]
    public async Task Show_gives_the_same_to_programs()
    {
        JsonNode json = JsonNode.Parse((await stored.CliAsync("show", "last", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal("done", (string)json["state"]!);
        Assert.Equal(Trials, (int)json["done"]!);
        JsonNode two = Kernel(json, 2);
        JsonNode four = Kernel(json, 4);
        Assert.True((double)two["error_median"]! > (double)four["error_median"]!);
        Assert.Equal(8, (int)two["pairs"]!);
        Assert.InRange((double)two["speedup"]!, (double)two["speedup_low"]!, (double)two["speedup_high"]!);
        Assert.Equal(6, json["by_size"]!.AsArray().Count);
        Assert.Equal(6, json["by_bound"]!.AsArray().Count);
        Assert.Empty(json["failures"]!.AsArray());
        Assert.NotEmpty((string)json["nodes"]![0]!["facts"]!["cpu"]!);

        static JsonNode Kernel(JsonNode json, int degree) =>
            json["kernels"]!.AsArray().Single(k => (int?)k!["degree"] == degree)!;
    }

    [Fact]
    public async Task Show_finds_a_sweep_by_number_by_name_and_by_last()
    {
        foreach (string id in (string[])["1", "tiny", "last"])
        {
            Assert.Contains("Sweep 1, tiny", (await stored.CliAsync("show", id)).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
        }

        Assert.Equal(StoredSweep.Tiny, (await stored.CliAsync("show", "1", "--source")).Out);
        foreach (string verb in (string[])["show", "watch", "cancel", "resume", "retry", "trace", "export"])
        {
            string error = (await stored.CliAsync(verb, "99")).ExpectRefusal(ExitCode.Invalid, 1);
            Assert.Contains("There is no sweep '99'", error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task List_names_the_sweep()
    {
        Assert.Contains("tiny", (await stored.CliAsync("list")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
        JsonNode json = JsonNode.Parse((await stored.CliAsync("list", "--state", "done", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal("tiny", (string)json[0]!["name"]!);
        Assert.Empty(JsonNode.Parse((await stored.CliAsync("list", "--state", "cancelled", "--json")).Out)!.AsArray());
    }

    [Fact]
    public async Task Query_answers_as_a_table_as_json_and_as_csv()
    {
        const string Sql = "select kernel, count(*) as trials, 'a,\"b' as odd, null as nothing, 'NaN'::float8 as nan "
            + "from trials group by kernel order by kernel";
        Ran table = (await stored.CliAsync("query", Sql)).Expect(ExitCode.Done);
        Assert.Equal("kernel", table.Out.Split('\n')[0].Split(' ')[0]);
        JsonNode json = JsonNode.Parse((await stored.CliAsync("query", Sql, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal(8, (int)json[0]!["trials"]!);
        Assert.Null(json[0]!["nan"]);
        string[] csv = (await stored.CliAsync("query", Sql, "--csv")).Expect(ExitCode.Done).Out.Split('\n');
        Assert.Equal("kernel,trials,odd,nothing,nan", csv[0]);
        Assert.Equal("exact,8,\"a,\"\"b\",,NaN", csv[1]);
    }

    [Fact]
    public async Task Query_answers_arrays_with_NULL_in_them_and_of_several_dimensions()
    {
        const string Sql = "select array[1.5::float8, null] as a, array[[1, 2, 3], [4, null, 6]] as b, array['x,y', null, '', 'z'] as c, '{}'::int[] as d";
        Ran csv = (await stored.CliAsync("query", Sql, "--csv")).Expect(ExitCode.Done);
        Assert.Equal("a,b,c,d\n\"{1.5,NULL}\",\"{{1,2,3},{4,NULL,6}}\",\"{\"\"x,y\"\",NULL,\"\"\"\",z}\",{}\n", csv.Out);
        JsonNode json = JsonNode.Parse((await stored.CliAsync("query", Sql, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal("""{"a":[1.5,null],"b":[[1,2,3],[4,null,6]],"c":["x,y",null,"","z"],"d":[]}""", json[0]!.ToJsonString());
        Assert.Contains("{{1,2,3},{4,NULL,6}}", (await stored.CliAsync("query", Sql)).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_table_shows_what_would_steer_the_terminal_and_files_hold_it_as_it_is()
    {
        const string Sql = "select E'a\\x1b[31mb\\tc\\nd' as \"x\u001b[1m\"";
        string[] table = (await stored.CliAsync("query", Sql)).Expect(ExitCode.Done).Out.Split('\n');
        Assert.Equal(("x\\u001b[1m", "a\\u001b[31mb\\tc\\nd"), (table[0], table[2]));
        Assert.Equal("x\u001b[1m\n\"a\u001b[31mb\tc\nd\"\n", (await stored.CliAsync("query", Sql, "--csv")).Expect(ExitCode.Done).Out);
        JsonNode json = JsonNode.Parse((await stored.CliAsync("query", Sql, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal("a\u001b[31mb\tc\nd", (string)json[0]!["x\u001b[1m"]!);
        Assert.Contains("no sweep '\\u001b[31m'", (await stored.CliAsync("show", "\u001b[31m")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--json")]
    [InlineData("--csv")]
    [InlineData(null)]
    public async Task A_query_that_fails_at_its_third_row_prints_no_half_of_an_answer(string? format)
    {
        string[] args = ["query", "select 1/(3-i) as quotient from generate_series(1, 5) i", .. (format is null ? [] : (string[])[format])];
        Assert.Contains("division by zero", (await stored.CliAsync(args)).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--json")]
    [InlineData("--csv")]
    public async Task A_long_answer_that_fails_late_is_said_to_be_cut_and_never_reads_as_whole(string format)
    {
        const string Sql = "select repeat('x', 1000000) as long, 1/(9-i) as quotient from generate_series(1, 20) i";
        Ran ran = (await stored.CliAsync("query", Sql, format)).Expect(ExitCode.Invalid);
        Assert.InRange(ran.Out.Length, 4_000_000, 9_000_000);
        Assert.Equal(2, ran.ErrorLines.Length);
        Assert.Contains("only the answer's beginning", ran.ErrorLines[0], StringComparison.Ordinal);
        Assert.Contains("division by zero", ran.ErrorLines[1], StringComparison.Ordinal);
        Assert.False(ran.Out.TrimEnd().EndsWith(']'));
    }

    [Theory]
    [InlineData("delete from trial")]
    [InlineData("COMMIT; DELETE FROM experiments.trial")]
    [InlineData("commit")]
    [InlineData("RESET ROLE; delete from trial")]
    [InlineData("set role experiments")]
    [InlineData("COPY (select 1) TO PROGRAM 'touch /tmp/experiments-was-here'")]
    [InlineData("copy trial to stdout")]
    [InlineData("create table mine (a int)")]
    [InlineData("create temporary table mine (a int)")]
    [InlineData("begin read write; insert into sweep default values")]
    [InlineData("set transaction read write; delete from trial")]
    [InlineData("do $$ begin delete from trial; end $$")]
    [InlineData("with gone as (delete from trial returning 1) select * from gone")]
    [InlineData("select lo_create(1)")]
    [InlineData("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and false; drop table trial")]
    [InlineData("update trial set status = 'failed'")]
    [InlineData("truncate trial")]
    [InlineData("selec 1")]
    [InlineData("select $1")]
    [InlineData("select * from nosuch")]
    [InlineData("")]
    public async Task Query_can_write_nothing(string sql)
    {
        (await stored.CliAsync("query", sql)).ExpectRefusal(ExitCode.Invalid, 2);

        JsonNode left = JsonNode.Parse((await stored.CliAsync("query", "select count(*) as n from trials where status = 'done'", "--json")).Out)!;
        Assert.Equal(Trials, (int)left[0]!["n"]!);
        Assert.False(File.Exists("/tmp/experiments-was-here"));
    }

    [Fact]
    public async Task Export_reads_back_in_every_format()
    {
        string csv = stored.Folder.File("t.csv");
        string json = stored.Folder.File("t.json");
        string parquet = stored.Folder.File("t.parquet");
        foreach (string file in (string[])[csv, json, parquet])
        {
            Ran ran = (await stored.CliAsync("export", "1", "-o", file)).Expect(ExitCode.Done);
            Assert.Equal("", ran.Out);
        }

        string[] lines = (await File.ReadAllTextAsync(csv, TestContext.Current.CancellationToken)).TrimEnd('\n').Split('\n');
        Assert.Equal(Trials + 1, lines.Length);
        string[] header = lines[0].Split(',');
        JsonArray rows = JsonNode.Parse(await File.ReadAllTextAsync(json, TestContext.Current.CancellationToken))!.AsArray();
        Assert.Equal(header, rows[0]!.AsObject().Select(p => p.Key));
        Assert.Equal(Enumerable.Range(0, Trials), rows.Select(r => (int)r!["trial"]!));

        await using ParquetReader reader = await ParquetReader.CreateAsync(parquet, cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(header, reader.Schema.Fields.Select(f => f.Name));
        using ParquetRowGroupReader group = reader.OpenRowGroupReader(0);
        Assert.Equal(Trials, group.RowCount);
        DataField field = reader.Schema.FindDataField("seconds_median");
        double?[] seconds = new double?[Trials];
        await group.ReadAsync<double>(field, seconds.AsMemory(), null, TestContext.Current.CancellationToken);
        Assert.Equal(rows.Select(r => (double?)r!["seconds_median"]), seconds);
    }

    [Fact]
    public async Task Export_refuses_what_it_cannot_write()
    {
        Assert.Contains("does not exist", (await stored.CliAsync("export", "1", "-o", stored.Folder.File("nosuch/x.csv"))).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        Assert.Contains("is a folder", (await stored.CliAsync("export", "1", "-o", stored.Folder.Path)).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        Assert.Contains("Name a file", (await stored.CliAsync("export", "1", "--format", "parquet")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Trace_draws_the_waterfall_of_a_shard_and_of_a_trial()
    {
        Ran shard = (await stored.CliAsync("trace", "1")).Expect(ExitCode.Done);
        Assert.Contains("instance", shard.Out, StringComparison.Ordinal);
        Assert.Contains("##", shard.Out, StringComparison.Ordinal);
        Ran trial = (await stored.CliAsync("trace", "1", "2")).Expect(ExitCode.Done);
        Assert.Contains("trial 2", trial.Out, StringComparison.Ordinal);
        Assert.Contains("low-rank float32 degree 4", trial.Out, StringComparison.Ordinal);
        JsonNode json = JsonNode.Parse((await stored.CliAsync("trace", "1", "0", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal(0, (int)json["trial"]!);
        Assert.NotEmpty(json["spans"]!.AsArray());
        Assert.Contains("no trial 999", (await stored.CliAsync("trace", "1", "999")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_done_sweep_has_nothing_to_cancel_to_resume_or_to_retry()
    {
        Assert.Contains("is done", (await stored.CliAsync("cancel", "1")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
        Assert.Contains("is done already", (await stored.CliAsync("resume", "1")).Expect(ExitCode.Done).Error, StringComparison.Ordinal);
        Assert.Contains("no failed trial to put back", (await stored.CliAsync("retry", "1")).Expect(ExitCode.Done).Error, StringComparison.Ordinal);
        Assert.Contains("is done", (await stored.CliAsync("watch", "1")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_and_database_know_the_named_store()
    {
        JsonNode checks = JsonNode.Parse((await stored.CliAsync("doctor", "--json")).Out)!;
        Assert.Contains(checks.AsArray(), c => (string)c!["check"]! == "postgres" && (bool)c["ok"]!);
        JsonNode status = JsonNode.Parse((await stored.CliAsync("database", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.False((bool)status["private"]!);
        Assert.Contains("psql", (string)status["psql"]!, StringComparison.Ordinal);
        Assert.Contains("--yes", (await stored.CliAsync("database", "reset")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }
}
