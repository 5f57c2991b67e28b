using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;
using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Client.Tests;

/// <summary>Sweeps over files of one's own that run where those files are not.</summary>
[Collection("silo")]
public sealed class FilesTests : IDisposable
{
    private const string Digests = "select trial, digest from trials where sweep_id = 1 and status = 'done' order by trial";

    private const string Mine = """
        name: mine
        seed: 1
        instances: {family: files, folder: data, n: [8, 16, 24, 32], d: [2, 4], x: identity}
        kernels:
          - {kernel: exact, precision: [float32, float64]}
          - {kernel: low-rank, degree: 2, precision: float64}
        measure: {rounds: 1, min_time: 0s, max_noise: 0, sharing: true}
        """;

    private const int Trials = 4 * 2 * 3;

    private readonly TemporaryFolder _folder = new();
    private readonly string _sweep;

    public FilesTests()
    {
        Directory.CreateDirectory(Data);
        Matrices.Random(32, 4, 1).Save(Data);
        _sweep = _folder.Write("mine.yaml", Mine);
    }

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private string Data => _folder.File("data");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_sweep_over_files_of_one_machine_runs_on_silos_that_cannot_see_them_to_the_same_bits()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        (_, Dictionary<string, string?> here) = await StoreAsync("here");
        (await Cli.RunAsync(here, "run", _sweep)).Expect(ExitCode.Done);
        (StoreAddress address, Dictionary<string, string?> cluster) = await StoreAsync("laptop");
        Ran submitted = (await Cli.RunAsync(cluster, "submit", _sweep)).Expect(ExitCode.Done);
        Assert.Contains("5 files, ", submitted.Error, StringComparison.Ordinal);
        Assert.Contains("Carries 5 files, ", (await Cli.RunAsync(cluster, "show", "1")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);

        // One is another file by now, the others are gone with the sweep's own file.
        File.Delete(_sweep);
        Directory.Delete(Data, recursive: true);
        Directory.CreateDirectory(Data);
        File.Copy(Path.Combine(Saved(2), "a1.npy"), Path.Combine(Data, "a1.npy"));

        await using RedisServer redis = await RedisServer.StartAsync();
        List<Child> silos = [];
        try
        {
            for (int i = 0; i < 2; i++)
            {
                silos.Add(await SiloAsync(address, redis, $"cache-{i}"));
            }

            await DoneAsync(cluster);
        }
        finally
        {
            foreach (Child silo in silos)
            {
                await silo.DisposeAsync();
            }
        }

        string expected = (await Cli.RunAsync(here, "query", Digests, "--csv")).Expect(ExitCode.Done).Out;
        Assert.Equal(Trials + 1, expected.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.Equal(expected, (await Cli.RunAsync(cluster, "query", Digests, "--csv")).Expect(ExitCode.Done).Out);

        // Whoever ran a shard has each of the files, once.
        string[] caches = [.. Enumerable.Range(0, 2).Select(i => _folder.File($"cache-{i}")).Where(Directory.Exists)];
        Assert.NotEmpty(caches);
        Assert.All(caches, cache => Assert.InRange(Directory.GetFiles(cache).Length, 1, 5));

        // And one trial again on a machine that never saw them.
        Ran again = (await Cli.RunAsync(cluster, "run", "--trial", "1/5")).Expect(ExitCode.Done);
        Assert.Contains("The gradient has the same bits.", again.Out, StringComparison.Ordinal);
        Assert.NotEmpty(Directory.GetFiles(Path.Combine(cluster["XDG_CACHE_HOME"]!, "experiments", "files")));
    }

    [Fact]
    public async Task A_silo_that_dies_while_it_fetches_loses_nothing_and_its_half_of_a_file_is_never_read()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        (_, Dictionary<string, string?> here) = await StoreAsync("here");
        (await Cli.RunAsync(here, "run", _sweep)).Expect(ExitCode.Done);
        (StoreAddress address, Dictionary<string, string?> cluster) = await StoreAsync("laptop");
        (await Cli.RunAsync(cluster, "submit", _sweep)).Expect(ExitCode.Done);
        Directory.Delete(Data, recursive: true);
        await using RedisServer redis = await RedisServer.StartAsync();
        await using (Child dying = await SiloAsync(address, redis, "cache", ("EXPERIMENTS_FAILPOINT", "mid-fetch:3")))
        {
            Assert.Equal(137, await dying.EndAsync(TimeSpan.FromMinutes(2)));
        }

        string[] left = Directory.GetFiles(_folder.File("cache"));
        Assert.Equal((3, 1), (left.Length, left.Count(f => f.EndsWith(".part", StringComparison.Ordinal))));
        await using (Child silo = await SiloAsync(address, redis, "cache"))
        {
            await DoneAsync(cluster);
        }

        Assert.Equal(
            (await Cli.RunAsync(here, "query", Digests, "--csv")).Expect(ExitCode.Done).Out,
            (await Cli.RunAsync(cluster, "query", Digests, "--csv")).Expect(ExitCode.Done).Out);

        // What had come was not fetched again.
        Assert.Equal(5, Directory.GetFiles(_folder.File("cache")).Count(f => !f.EndsWith(".part", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task An_archive_takes_the_files_along_and_the_sweep_is_finished_in_the_other_store()
    {
        (_, Dictionary<string, string?> here) = await StoreAsync("here");
        (await Cli.RunAsync(here, "run", _sweep)).Expect(ExitCode.Done);
        (_, Dictionary<string, string?> laptop) = await StoreAsync("laptop");
        (await Cli.RunAsync(laptop, "submit", _sweep)).Expect(ExitCode.Done);
        string file = _folder.File("mine.zip"), without = _folder.File("without.zip");
        Assert.Contains("; 5 files that it carries among it.", (await Cli.RunAsync(laptop, "export", "1", "--archive", file)).Expect(ExitCode.Done).Error, StringComparison.Ordinal);
        Assert.DoesNotContain("among it", (await Cli.RunAsync(laptop, "export", "1", "--archive", without, "--without-files")).Expect(ExitCode.Done).Error, StringComparison.Ordinal);
        Directory.Delete(Data, recursive: true);

        (_, Dictionary<string, string?> there) = await StoreAsync("there");
        Ran imported = (await Cli.RunAsync(there, "import", file)).Expect(ExitCode.Done);
        Assert.Contains($"0 of {Trials} trials imported, with 5 files;", imported.Out, StringComparison.Ordinal);
        (await Cli.RunAsync(there, "resume", "1")).Expect(ExitCode.Done);
        Assert.Equal(
            (await Cli.RunAsync(here, "query", Digests, "--csv")).Expect(ExitCode.Done).Out,
            (await Cli.RunAsync(there, "query", Digests, "--csv")).Expect(ExitCode.Done).Out);

        // Without them, nobody has them: that is each trial's reason, and the sweep ends.
        (_, Dictionary<string, string?> elsewhere) = await StoreAsync("elsewhere");
        (await Cli.RunAsync(elsewhere, "import", without)).Expect(ExitCode.Done);
        (await Cli.RunAsync(elsewhere, "resume", "1")).Expect(ExitCode.SomeFailed);
        Assert.Contains($"{Path.Combine(Data, "a1.npy")} does not exist", await ReasonsAsync(elsewhere), StringComparison.Ordinal);
    }

    /// <summary>Formulas go the road of matrices: carried, cached, archived, and run again one by one, where nobody has their files.</summary>
    [Fact]
    public async Task A_sweep_over_formulas_runs_where_they_are_not_to_the_same_bits()
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        string formulas = _folder.File("formulas");
        Directory.CreateDirectory(formulas);
        File.WriteAllText(Path.Combine(formulas, "yes.cnf"), "c one way only\np cnf 6 6\n1 0 -1 2 0 -2 3 0 -3 4 0 -4 5 0 -5 6 0\n");
        File.WriteAllText(Path.Combine(formulas, "no.cnf"), "p cnf 5 6\n1 0 -1 2 0 -2 3 0\n-3 4 0 -4 5 0 -5 -1 0\n%\n0\n");
        string sweep = _folder.Write("formulas.yaml", """
            name: formulas
            seed: 1
            instances: {family: sat, formula: [formulas/yes.cnf, formulas/no.cnf], n: [16, 24], d: 8}
            kernels: [{kernel: exact, precision: [float32, float64]}, {kernel: low-rank, degree: 2, precision: float64}]
            measure: {rounds: 1, min_time: 0s, max_noise: 0, sharing: true}
            """);
        const string Exact = "select trial, digest from trials where sweep_id = 1 and kernel = 'exact' and status = 'done' order by trial";
        (_, Dictionary<string, string?> here) = await StoreAsync("here");
        await Cli.RunAsync(here, "run", sweep);
        string expected = (await Cli.RunAsync(here, "query", Exact, "--csv")).Expect(ExitCode.Done).Out;
        Assert.Equal(8 + 1, expected.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);

        (StoreAddress address, Dictionary<string, string?> cluster) = await StoreAsync("laptop");
        Assert.Contains("2 files, ", (await Cli.RunAsync(cluster, "submit", sweep)).Expect(ExitCode.Done).Error, StringComparison.Ordinal);
        string archive = _folder.File("formulas.zip");
        (await Cli.RunAsync(cluster, "export", "1", "--archive", archive)).Expect(ExitCode.Done);

        // One is another formula by now, and the other is gone.
        File.Move(Path.Combine(formulas, "no.cnf"), Path.Combine(formulas, "yes.cnf"), overwrite: true);
        File.Delete(sweep);
        await using RedisServer redis = await RedisServer.StartAsync();
        await using (Child silo = await SiloAsync(address, redis, "cache"))
        {
            await DoneAsync(cluster);
        }

        Assert.Equal(expected, (await Cli.RunAsync(cluster, "query", Exact, "--csv")).Expect(ExitCode.Done).Out);
        Assert.Equal(2, Directory.GetFiles(_folder.File("cache")).Length);
        Ran again = (await Cli.RunAsync(cluster, "run", "--trial", "1/0")).Expect(ExitCode.Done);
        Assert.Contains("The gradient has the same bits.", again.Out, StringComparison.Ordinal);

        (_, Dictionary<string, string?> there) = await StoreAsync("there");
        Assert.Contains("with 2 files;", (await Cli.RunAsync(there, "import", archive)).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
        await Cli.RunAsync(there, "resume", "1");
        Assert.Equal(expected, (await Cli.RunAsync(there, "query", Exact, "--csv")).Expect(ExitCode.Done).Out);

        // Left behind, a formula that was saved over is not taken for the one that was asked about.
        (_, Dictionary<string, string?> left) = await StoreAsync("left");
        sweep = _folder.Write("formulas.yaml", """
            name: formulas
            instances: {family: sat, formula: formulas/yes.cnf, n: 16, d: 8}
            kernels: {kernel: exact}
            measure: {rounds: 1, min_time: 0s, max_noise: 0}
            """);
        (await Cli.RunAsync(left, "run", sweep, "--leave-files")).Expect(ExitCode.Done);
        File.WriteAllText(Path.Combine(formulas, "yes.cnf"), "p cnf 5 1\n1 0\n");
        Assert.Contains(
            $"{Path.Combine(formulas, "yes.cnf")} has changed since the sweep was made",
            (await Cli.RunAsync(left, "run", "--trial", "1/0")).Expect(ExitCode.SomeFailed).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_no_formula_or_does_not_fit_is_one_line_and_reaches_no_store()
    {
        _folder.Write("f.cnf", "p cnf 20 2\n1 -2 0\n20 0\n");
        _folder.Write("cut.cnf", "p cnf 20 2\n1 -2 0\n20\n");
        _folder.Write("wide.cnf", "p cnf 100 1\n1 -2 0\n");
        string sweep = _folder.Write("formulas.yaml", "name: f\ninstances: {family: sat, formula: f.cnf, n: 2048, d: 3}\nkernels: {kernel: exact}\n");
        (await Cli.RunAsync("plan", sweep)).Expect(ExitCode.Done);
        foreach ((string set, string said) in new[]
        {
            ("instances.n=1024", "f.cnf has 20 variables and 2 clauses, and n = 1024 and d = 3 do not hold it. Write n: 2048 and d: 3, or more."),
            ("instances.d=[3,2]", "n = 2048 and d = 2 do not hold it. Write n: 2048 and d: 3, or more."), ("instances.formula=none.cnf", "none.cnf', and there is none"),
            ("instances.formula=cut.cnf", "cut.cnf, line 3: the file ends within clause 2."), ("instances.formula=wide.cnf", "wide.cnf has 100 variables, and n would have to be 2^51"),
            ("instances.formula=formulas.yaml", "line 1: 'name: f' stands before the line 'p cnf VARIABLES CLAUSES'"), ("instances.width=3", "leave it out where formula names a file"),
            ("instances.heads=2", "gives the same one each time"),
        })
        {
            foreach (string verb in (string[])["plan", "submit"])
            {
                string error = (await Cli.RunAsync(verb, sweep, "--set", set)).ExpectRefusal(ExitCode.Invalid, 1);
                Assert.Contains(said, error, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public async Task A_copy_that_is_damaged_in_the_store_is_never_computed_with_and_its_trials_run_when_it_is_mended()
    {
        (StoreAddress address, Dictionary<string, string?> store) = await StoreAsync("here");
        (await Cli.RunAsync(store, "submit", _sweep)).Expect(ExitCode.Done);
        Directory.Delete(Data, recursive: true);
        const string Flip = "UPDATE experiments.file_piece SET data = set_byte(data, 200, get_byte(data, 200) # 1)";
        await ExecuteAsync(address, Flip);
        (await Cli.RunAsync(store, "resume", "1")).Expect(ExitCode.SomeFailed);
        Assert.Contains("is not what was submitted: its SHA-256 is not", await ReasonsAsync(store), StringComparison.Ordinal);
        Assert.Equal("status,count\nfailed,24", (await Cli.RunAsync(store, "query", "select status, count(*) from trials group by 1", "--csv")).Expect(ExitCode.Done).Out.Trim().ReplaceLineEndings("\n"));
        string refused = (await Cli.RunAsync(store, "export", "1", "--archive", _folder.File("x.zip"))).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("copy of a file of this sweep is damaged", refused, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder.File("x.zip")));
        await ExecuteAsync(address, Flip);
        (await Cli.RunAsync(store, "retry", "1", "--failed")).Expect(ExitCode.Done);
    }

    [Fact]
    public async Task Whoever_may_only_look_is_told_what_goes_without_the_files()
    {
        (StoreAddress address, Dictionary<string, string?> store) = await StoreAsync("here");
        (await Cli.RunAsync(store, "run", _sweep)).Expect(ExitCode.Done);
        Dictionary<string, string?> looker = new(store) { ["EXPERIMENTS_POSTGRES"] = address.Reader };
        string file = _folder.File("mine.zip");
        string refused = (await Cli.RunAsync(looker, "export", "1", "--archive", file)).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("this login may not read them. Name one that may write in EXPERIMENTS_POSTGRES; --without-files leaves them out.", refused, StringComparison.Ordinal);
        (await Cli.RunAsync(looker, "export", "1", "--archive", file, "--without-files")).Expect(ExitCode.Done);

        // Where they lie as they were, nobody has to ask for them.
        (await Cli.RunAsync(looker, "run", "--trial", "1/0")).Expect(ExitCode.Done);
        Directory.Delete(Data, recursive: true);
        Ran without = await Cli.RunAsync(looker, "run", "--trial", "1/0");
        Assert.Contains("this login may not read them", without.Out + without.Error, StringComparison.Ordinal);
        (await Cli.RunAsync(store, "run", "--trial", "1/0")).Expect(ExitCode.Done);
    }

    [Fact]
    public async Task A_sweep_that_leaves_its_files_reads_them_where_they_are_and_no_others()
    {
        (_, Dictionary<string, string?> store) = await StoreAsync("here");
        Ran ran = (await Cli.RunAsync(store, "run", _sweep, "--leave-files")).Expect(ExitCode.Done);
        Assert.DoesNotContain("into the store", ran.Error, StringComparison.Ordinal);
        File.Copy(Path.Combine(Saved(2), "a2.npy"), Path.Combine(Data, "a2.npy"), overwrite: true);
        Ran again = (await Cli.RunAsync(store, "run", "--trial", "1/0")).Expect(ExitCode.SomeFailed);
        Assert.Contains("has changed since the sweep was made", again.Out, StringComparison.Ordinal);

        // Extended, it carries what it is over by then.
        (await Cli.RunAsync(store, "run", _sweep, "--leave-files", "--set", "instances.n=[8]")).Expect(ExitCode.Done);
        Ran extended = (await Cli.RunAsync(store, "extend", "2", _sweep)).Expect(ExitCode.Done);
        Assert.Contains("5 files, ", extended.Error, StringComparison.Ordinal);
        Directory.Delete(Data, recursive: true);
        (await Cli.RunAsync(store, "run", "--trial", "2/0")).Expect(ExitCode.Done);
        (await Cli.RunAsync(store, "run", "--trial", $"2/{Trials - 1}")).Expect(ExitCode.Done);
    }

    [Fact]
    public async Task One_trial_of_a_kernel_of_ones_own_on_files_that_are_gone_runs_again_where_the_kernel_is()
    {
        (_, Dictionary<string, string?> store) = await StoreAsync("here");
        string sweep = _folder.Write("own.yaml", """
            name: own
            seed: 1
            instances: {family: files, folder: data, n: 32, d: 4}
            kernels: [{kernel: exact, precision: float64}, {kernel: window, half_width: 4, precision: float64}]
            measure: {rounds: 1, min_time: 0s, max_noise: 0}
            """);
        (await Cli.RunAsync(store, "run", sweep, "--plugins", PlugInTests.Folder)).Expect(ExitCode.Done);
        Directory.Delete(Data, recursive: true);
        JsonNode again = JsonNode.Parse((await Cli.RunAsync(store, "run", "--trial", "1/1", "--plugins", PlugInTests.Folder, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.StartsWith("window ", (string)again["kernel"]!, StringComparison.Ordinal);
        Assert.True((bool)again["same_digest"]!);
        Assert.Contains("--plugins", (await Cli.RunAsync(store, "run", "--trial", "1/1")).ExpectRefusal(ExitCode.Invalid), StringComparison.Ordinal);
    }

    /// <summary>Nobody has to have the files of a sweep that came from elsewhere, or that was submitted a year ago.</summary>
    [Fact]
    public async Task A_sweep_whose_folder_is_gone_is_extended_by_what_it_carries_and_by_files_that_are_new()
    {
        (_, Dictionary<string, string?> here) = await StoreAsync("here");
        (await Cli.RunAsync(here, "run", _sweep)).Expect(ExitCode.Done);
        (_, Dictionary<string, string?> store) = await StoreAsync("there");
        (await Cli.RunAsync(store, "run", _sweep, "--set", "instances.n=[8,24]")).Expect(ExitCode.Done);
        Directory.Delete(Data, recursive: true);
        Ran extended = (await Cli.RunAsync(store, "extend", "1", "--set", "instances.n=[8,16,24,32]")).Expect(ExitCode.Done);
        Assert.DoesNotContain("into the store", extended.Error, StringComparison.Ordinal);
        const string ByKey = "select trial_key, digest from trials where sweep_id = 1 and status = 'done' order by trial_key";
        Assert.Equal(
            (await Cli.RunAsync(here, "query", ByKey, "--csv")).Expect(ExitCode.Done).Out,
            (await Cli.RunAsync(store, "query", ByKey, "--csv")).Expect(ExitCode.Done).Out);

        // What it does not carry is looked for where it would be.
        Assert.Contains(
            "other.npy', and there is none", (await Cli.RunAsync(store, "extend", "1", "--set", "instances.y=other")).ExpectRefusal(ExitCode.Invalid, 1),
            StringComparison.Ordinal);

        // A file that is saved over is not the sweep's, and none that came to lie beside the others is taken for a matrix that was the identity.
        Directory.CreateDirectory(Data);
        Matrices.Random(32, 4, 9).Save(Data);
        Ran same = (await Cli.RunAsync(store, "extend", "1", "--set", "instances.n=[8,16,24,32]")).Expect(ExitCode.Done);
        Assert.Contains($"has all {Trials} trials of it already", same.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_no_file_of_matrices_is_one_line_and_reaches_no_store()
    {
        string pipe = Path.Combine(Data, "pipe.npy");
        using (Process made = Process.Start("mkfifo", [pipe]))
        {
            await made.WaitForExitAsync(Cancellation);
        }

        File.WriteAllBytes(Path.Combine(Data, "empty.npy"), []);
        File.WriteAllText(Path.Combine(Data, "text.npy"), "a,b,c\n1,2,3\n");
        Directory.CreateDirectory(Path.Combine(Data, "folder.npy"));
        File.CreateSymbolicLink(Path.Combine(Data, "loop.npy"), Path.Combine(Data, "loop.npy"));
        File.CreateSymbolicLink(Path.Combine(Data, "dangling.npy"), Path.Combine(Data, "nowhere"));
        File.CreateSymbolicLink(Path.Combine(Data, "link.npy"), Path.Combine(Data, "a1.npy"));
        foreach (string verb in (string[])["submit", "run", "plan"])
        {
            foreach ((string set, string said) in new[]
            {
                ("instances.folder=dta", "There is no folder"), ("instances.a1=nosuch", "nosuch.npy', and there is none"), ("instances.a1=empty", "is empty, or a pipe or device"),
                ("instances.a1=pipe", "is empty, or a pipe or device"), ("instances.a1=text", "text.npy' "), ("instances.a1=folder", "folder.npy' is a folder; "), ("instances.a1=loop", "loop.npy'"),
                ("instances.a1=dangling", "dangling.npy', and there is none"),
            })
            {
                // No store is named, and none is started: HOME is nowhere.
                string error = (await Cli.RunAsync(verb, _sweep, "--set", set)).ExpectRefusal(ExitCode.Invalid, 1);
                Assert.Contains(said, error, StringComparison.Ordinal);
            }
        }

        // A link is as good as what it leads to, which is what is carried.
        (_, Dictionary<string, string?> store) = await StoreAsync("here");
        Assert.Contains("5 files", (await Cli.RunAsync(store, "submit", _sweep, "--set", "instances.a1=link")).Expect(ExitCode.Done).Error, StringComparison.Ordinal);

        foreach ((string[] words, string said) in new (string[], string)[]
        {
            (["run", "--trial", "1/0", "--leave-files"], "--leave-files out"), (["export", "1", "--without-files"], "is for --archive FILE"),
        })
        {
            Assert.Contains(said, (await Cli.RunAsync(store, words)).ExpectRefusal(ExitCode.Invalid, 3), StringComparison.Ordinal);
        }

        store["EXPERIMENTS_FILES_CACHE_SIZE"] = "plenty";
        Assert.Contains(
            "EXPERIMENTS_FILES_CACHE_SIZE: files_cache_size is 'plenty'; a size such as 50GiB is needed.",
            (await Cli.RunAsync(store, "run", _sweep)).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    private Task<Child> SiloAsync(StoreAddress address, RedisServer redis, string cache, params (string Name, string Value)[] more)
    {
        Dictionary<string, string?> environment = new()
        {
            ["EXPERIMENTS_POSTGRES"] = address.Owner, ["HOME"] = _folder.Path, ["XDG_CONFIG_HOME"] = _folder.Path,
            ["EXPERIMENTS_FILES_CACHE"] = _folder.File(cache), ["EXPERIMENTS_FILES_CACHE_SIZE"] = "1MiB",
        };
        foreach ((string name, string value) in more)
        {
            environment[name] = value;
        }

        return Child.StartAsync(
            environment, "dotnet", Path.Combine(AppContext.BaseDirectory, "experiments.dll"), "silo", "--port", "0", "--lanes", "1",
            "--redis", string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{redis.Port}"));
    }

    /// <summary>Another draw of the matrices, in a folder of its own.</summary>
    private string Saved(int seed)
    {
        string folder = _folder.File(string.Create(CultureInfo.InvariantCulture, $"seed-{seed}"));
        Directory.CreateDirectory(folder);
        Matrices.Random(32, 4, seed).Save(folder);
        return folder;
    }

    private async Task<(StoreAddress Address, Dictionary<string, string?> Environment)> StoreAsync(string cache)
    {
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        return (address, new Dictionary<string, string?> { ["EXPERIMENTS_POSTGRES"] = address.Owner, ["XDG_CACHE_HOME"] = _folder.File(cache) });
    }

    private static async Task DoneAsync(Dictionary<string, string?> store)
    {
        for (int i = 0; ; i++)
        {
            JsonNode show = JsonNode.Parse((await Cli.RunAsync(store, "query", "select state from sweep where id = 1", "--json")).Expect(ExitCode.Done).Out)!;
            if (show.ToJsonString().Contains("\"done\"", StringComparison.Ordinal))
            {
                return;
            }

            Assert.True(i < 240, $"The sweep is not done: {show}");
            await Task.Delay(500, Cancellation);
        }
    }

    private static async Task<string> ReasonsAsync(Dictionary<string, string?> store) =>
        (await Cli.RunAsync(store, "query", "select distinct reason from trials", "--csv")).Expect(ExitCode.Done).Out;

    private static async Task ExecuteAsync(StoreAddress address, string sql)
    {
        await using NpgsqlConnection connection = new(address.Owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        await command.ExecuteNonQueryAsync(Cancellation);
    }
}
