using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;
using Experiments.Client.Verbs;
using Experiments.Kernels.Contract;
using Experiments.Results.Store;
using Experiments.Testing;

namespace Experiments.Client.Tests;

/// <summary>Kernels and families of one's own, by the real command, with the sample that the solution builds.</summary>
[Collection("silo")]
public sealed class PlugInTests : IAsyncLifetime
{
    // ….Tests/bin/Release/net10.0: the sample is built in the same configuration.
    private static readonly string Configuration =
        Path.GetFileName(Path.GetDirectoryName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar))!);

    internal static readonly string Folder =
        Path.Combine(ReadmeTests.Root, "tests", "Plugins.Sample", "bin", Configuration, "net10.0");

    private static readonly string Assembly = Path.Combine(Folder, "Experiments.Plugins.Sample.dll");

    private readonly TemporaryFolder _folder = new();
    private readonly Dictionary<string, string?> _environment = [];

    private string Sweep => _folder.Write("mine.yaml", """
        name: mine
        seed: 1
        instances: {family: walk, memory: 0.5, n: 96, d: 3, bound: 12, repeats: 2}
        kernels:
          - kernel: exact
            precision: float64
          - kernel: window
            half_width: [4, 200]
            precision: float64
          - kernel: random-fourier
            features: 4
            precision: float64
        measure: {rounds: 2, min_time: 1ms, max_noise: 0}
        """);

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

    [Fact]
    public async Task A_listing_shows_what_a_plug_in_brings_and_which_file_it_is()
    {
        JsonNode json = JsonNode.Parse((await Cli.RunAsync("kernels", "--plugins", Folder, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Contains("window", json["kernels"]!.AsArray().Select(k => (string)k!["name"]!));
        Assert.Contains("walk", json["families"]!.AsArray().Select(f => (string)f!["name"]!));
        JsonNode plugIn = Assert.Single(json["plugins"]!.AsArray())!;
        byte[] hash = SHA256.HashData(await File.ReadAllBytesAsync(Assembly, TestContext.Current.CancellationToken));
        Assert.Equal(Convert.ToHexStringLower(hash), (string)plugIn["sha256"]!);
        Assert.Equal("Experiments.Plugins.Sample", (string)plugIn["name"]!);

        Dictionary<string, string?> environment = new() { ["EXPERIMENTS_PLUGINS"] = Folder };
        string text = (await Cli.RunAsync(environment, "kernels")).Expect(ExitCode.Done).Out;
        Assert.Contains("half_width", text, StringComparison.Ordinal);
        Assert.Contains("sha256 " + Convert.ToHexStringLower(hash)[..16], text, StringComparison.Ordinal);
        Assert.DoesNotContain("half_width", (await Cli.RunAsync("kernels")).Expect(ExitCode.Done).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_sweep_over_a_kernel_and_a_family_of_one_s_own_is_run_stored_and_queried()
    {
        // Four Fourier features give row sums of either sign so far out: those trials fail, the rest is done.
        (await Cli.RunAsync(_environment, "run", Sweep, "--plugins", Folder)).Expect(ExitCode.SomeFailed);
        JsonNode rows = await QueryAsync(
            "select kernel_parameters->>'half_width' as w, parameters->>'memory' as memory, min(status::text) as status, count(*) as n, "
            + "min(gradient_relative_error) as error from trials where kernel = 'window' and family = 'walk' group by 1, 2 order by 1");
        Assert.Equal(["200", "4"], rows.AsArray().Select(r => (string)r!["w"]!));
        Assert.All(rows.AsArray(), r => Assert.Equal(("0.5", "done", 2), ((string)r!["memory"]!, (string)r["status"]!, (int)r["n"]!)));

        // A window wider than the sequence is the exact gradient; a narrow one is not.
        Assert.InRange((double)rows[0]!["error"]!, 0, 1e-12);
        Assert.InRange((double)rows[1]!["error"]!, 1e-6, 10);
        JsonNode speedUp = await QueryAsync("select count(*) as n from paired_speedup where kernel = 'window' and speedup_median > 0");
        Assert.Equal(2, (int)speedUp[0]!["n"]!);

        byte[] hash = SHA256.HashData(await File.ReadAllBytesAsync(Assembly, TestContext.Current.CancellationToken));
        JsonNode node = await QueryAsync(
            "select p->>'sha256' as sha256, p->>'version' as version, p->'kernels'->>0 as kernel, p->'families'->>0 as family "
            + "from node, jsonb_array_elements(facts->'plugins') p");
        JsonNode stored = Assert.Single(node.AsArray())!;
        Assert.Equal(Convert.ToHexStringLower(hash), (string)stored["sha256"]!);
        Assert.Equal(("window", "walk"), ((string)stored["kernel"]!, (string)stored["family"]!));
        Assert.StartsWith("0.1.0", (string)stored["version"]!, StringComparison.Ordinal);

        // Failed trials are put back, but a process that lacks the kernel must not touch the sweep.
        string error = (await Cli.RunAsync(_environment, "retry", "last")).ExpectRefusal(ExitCode.Invalid, 3);
        Assert.Contains("0 of 1 silos can run w", error, StringComparison.Ordinal);
        (await Cli.RunAsync(_environment, "resume", "last", "--plugins", Folder)).Expect(ExitCode.SomeFailed);
    }

    [Fact]
    public async Task A_plan_says_how_many_silos_can_run_a_kernel()
    {
        string plan = (await Cli.RunAsync("plan", Sweep, "--plugins", Folder)).Expect(ExitCode.Done).Out;
        Assert.Contains("1 of 1 silos can run window, of Experiments.Plugins.Sample 0.1.0", plan, StringComparison.Ordinal);
        Assert.Contains("1 of 1 silos can run walk", plan, StringComparison.Ordinal);
        string error = (await Cli.RunAsync("plan", Sweep)).ExpectRefusal(ExitCode.Invalid, 3);
        Assert.Contains("0 of 1 silos can run walk", error, StringComparison.Ordinal);
        Assert.Contains("0 of 1 silos can run window", error, StringComparison.Ordinal);
        Assert.Contains("--plugins", error, StringComparison.Ordinal);

        // Its axes are checked like any other's.
        Assert.Contains("half_width", (await Cli.RunAsync("plan", Sweep, "--plugins", Folder, "--set", "kernels.1.half_width=-1"))
            .ExpectRefusal(ExitCode.Invalid, 2), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_sweep_goes_only_where_the_very_plug_in_is_that_it_was_made_with()
    {
        CancellationToken stop = TestContext.Current.CancellationToken;
        string slow = _folder.Write("slow.yaml", """
            name: slow
            seed: 1
            instances: {family: gaussian, n: 1024, d: 16, bound: 1, repeats: 400}
            kernels:
              - {kernel: window, half_width: 512}
            measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none}
            """);
        string changed = Directory.CreateDirectory(_folder.File("changed")).FullName;
        await File.WriteAllBytesAsync(
            Path.Combine(changed, Path.GetFileName(Assembly)), [.. await File.ReadAllBytesAsync(Assembly, stop), 0], stop);

        // One process has it and runs the sweep; this one is another on the same store.
        using ClientProcess running = ClientProcess.Start(_environment, "run", slow, "--plugins", Folder);
        await running.SaysAsync("Sweep 1, 'slow'");
        string plan = "";
        for (int i = 0; i < 600 && !plan.Contains("2 of 2 silos can run window", StringComparison.Ordinal); i++)
        {
            plan = (await Cli.RunAsync(_environment, "plan", slow, "--plugins", Folder)).Expect(ExitCode.Done).Out;
        }

        Assert.Contains("2 of 2 silos can run window, of Experiments.Plugins.Sample", plan, StringComparison.Ordinal);
        JsonNode json = JsonNode.Parse(
            (await Cli.RunAsync(_environment, "plan", slow, "--plugins", changed, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal((1, 2), ((int)json["needs"]![0]!["silos_able"]!, (int)json["needs"]![0]!["silos"]!));
        Assert.Contains("1 of 2 silos can run window, and this one cannot", await RefusedAsync("plan", slow), StringComparison.Ordinal);

        // Neither a process without it, nor one with another build of it, touches the sweep.
        Assert.Contains("1 of 2 silos can run window, of Experiments.Plugins.Sample", await RefusedAsync("resume", "1"), StringComparison.Ordinal);
        Assert.Contains("this one lacks it", await RefusedAsync("retry", "1"), StringComparison.Ordinal);
        Assert.Contains("this one has Experiments.Plugins.Sample", await RefusedAsync("resume", "1", "--plugins", changed), StringComparison.Ordinal);
        running.Signal("INT");
        (await running.EndAsync()).Expect(ExitCode.Interrupted);
        Assert.Contains("0 of 1 silos can run window", await RefusedAsync("resume", "1"), StringComparison.Ordinal);
        JsonNode stored = await QueryAsync(
            "select plug_ins->0->>'sha256' as sha256, state, (select count(*) from node) as nodes from sweep where id = 1");
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(await File.ReadAllBytesAsync(Assembly, stop))), (string)stored[0]!["sha256"]!);
        Assert.Equal("running", (string)stored[0]!["state"]!);

        async Task<string> RefusedAsync(params string[] args) =>
            (await Cli.RunAsync(_environment, args)).ExpectRefusal(ExitCode.Invalid, 1);
    }

    [Fact]
    public async Task What_cannot_be_loaded_is_refused_in_one_line()
    {
        string empty = Directory.CreateDirectory(Path.Combine(_folder.Path, "empty")).FullName;
        string twice = Directory.CreateDirectory(Path.Combine(_folder.Path, "twice")).FullName;
        string text = Directory.CreateDirectory(Path.Combine(_folder.Path, "text")).FullName;
        File.Copy(Assembly, Path.Combine(twice, "a.dll"));
        File.Copy(Assembly, Path.Combine(twice, "b.dll"));
        await File.WriteAllTextAsync(Path.Combine(text, "c.dll"), "no assembly", TestContext.Current.CancellationToken);
        await RefusedAsync("is not there", Path.Combine(_folder.Path, "nowhere"));
        await RefusedAsync("holds no kernel", empty);
        await RefusedAsync("holds no kernel", text);
        await RefusedAsync("b.dll brings a kernel 'window', and there is one of a.dll already", twice);
        await RefusedAsync("and there is one of", Folder + Path.PathSeparator + twice);
        Assert.StartsWith("EXPERIMENTS_PLUGINS: ", (await Cli.RunAsync(new Dictionary<string, string?>
        {
            ["EXPERIMENTS_PLUGINS"] = empty,
        }, "kernels")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);

        async Task RefusedAsync(string message, string folder) => Assert.Contains(
            message, (await Cli.RunAsync("kernels", "--plugins", folder)).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_contract_is_asked_of_every_kernel_and_family_of_an_assembly()
    {
        JsonNode json = JsonNode.Parse(
            (await Cli.RunAsync("kernels", "check", Assembly, "--set", "half_width=3", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal(["family walk", "kernel window"], json.AsArray().Select(r => (string)r!["of"]!).Distinct().Order());
        Assert.All(json.AsArray(), r => Assert.True((bool)r!["holds"]!, r!.ToJsonString()));
        string text = (await Cli.RunAsync("kernels", "check", Assembly, "--kernel", "walk")).Expect(ExitCode.Done).Out;
        Assert.Contains("family walk with memory = 0.9", text, StringComparison.Ordinal);
        Assert.Contains("The contract is kept.", text, StringComparison.Ordinal);
        Assert.DoesNotContain("kernel window", text, StringComparison.Ordinal);

        // --plugins would refuse a name that is taken, so the check says it too.
        Assert.Equal(2, json.AsArray().Count(r => (string)r!["rule"]! == "its name is nobody else's"));
        ContractResult taken = KernelsVerb.Free("exact", ["reference", "exact"]);
        Assert.False(taken.Holds);
        Assert.Contains("is called 'exact'", taken.Detail, StringComparison.Ordinal);

        string file = _folder.Write("c.dll", "no assembly");
        Assert.Contains("no .NET assembly", await RefusedAsync("kernels", "check", file), StringComparison.Ordinal);
        Assert.Contains("has no kernel and no family", await RefusedAsync("kernels", "check", typeof(Cli).Assembly.Location), StringComparison.Ordinal);
        Assert.Contains("it has window, walk", await RefusedAsync("kernels", "check", Assembly, "--kernel", "other"), StringComparison.Ordinal);
        Assert.Contains("There is no file", await RefusedAsync("kernels", "check", "nowhere.dll"), StringComparison.Ordinal);
        Assert.Contains("a whole number", await RefusedAsync("kernels", "check", Assembly, "--set", "half_width=wide"), StringComparison.Ordinal);

        static async Task<string> RefusedAsync(params string[] args) => (await Cli.RunAsync(args)).ExpectRefusal(ExitCode.Invalid, 1);
    }

    [Fact]
    public async Task One_gradient_of_one_s_own_matrices_by_a_kernel_of_one_s_own()
    {
        Matrices.Random(40, 3, seed: 4).Save(_folder.Path);
        JsonNode json = JsonNode.Parse((await Cli.RunAsync(
            "gradient", "--inputs", _folder.Path, "--kernel", "window", "--set", "half_width=40", "--plugins", Folder, "--check", "--json"))
            .Expect(ExitCode.Done).Out)!;
        Assert.InRange((double)json["gradient_relative_error"]!, 0, 1e-12);
        Assert.Equal(40, (int)json["settings"]!["half_width"]!);
        JsonNode rival = JsonNode.Parse((await Cli.RunAsync(
            "gradient", "--inputs", _folder.Path, "--kernel", "performer", "--set", "features=64", "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal(64, (int)rival["rank"]!);
        Assert.Contains("axis=value", (await Cli.RunAsync(
            "gradient", "--inputs", _folder.Path, "--kernel", "performer", "--set", "features"))
            .ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_page_shows_the_very_kernel_that_is_tested_and_its_sweep_plans()
    {
        CancellationToken stop = TestContext.Current.CancellationToken;
        string page = await File.ReadAllTextAsync(Path.Combine(ReadmeTests.Root, "src", "Kernels", "WRITING-A-KERNEL.md"), stop);
        string kernel = await File.ReadAllTextAsync(
            Path.Combine(ReadmeTests.Root, "tests", "Plugins.Sample", "WindowGradient.cs"), stop);
        Assert.Contains("```csharp\n" + kernel + "```", page, StringComparison.Ordinal);
        string sweep = page.Split("```yaml\n")[1].Split("```")[0];
        JsonNode plan = JsonNode.Parse((await Cli.RunAsync("plan", _folder.Write("page.yaml", sweep), "--plugins", Folder, "--json"))
            .Expect(ExitCode.Done).Out)!;
        Assert.Equal(5 * 2 * 3, (int)plan["trials"]!);
    }

    private async Task<JsonNode> QueryAsync(string sql) =>
        JsonNode.Parse((await Cli.RunAsync(_environment, "query", sql, "--json")).Expect(ExitCode.Done).Out)!;
}
