using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Nodes;
using Experiments.Cluster.Tests.Driving;
using Experiments.Silo;
using Experiments.Silo.OneMachine;
using Experiments.Testing;

namespace Experiments.Cluster.Tests;

/// <summary>A cluster on one machine: silos, Redis and Postgres started by one command, killed on purpose, and ended by another.</summary>
public sealed class OneMachineTests
{
    private const int Trials = 2 * 40 * 2;

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_cluster_is_brought_up_mended_after_kills_and_leaves_nothing_behind()
    {
        await using OneMachine machine = new();
        Assert.Equal(0, (await machine.RunAsync("cluster", "up", "--silos", "2", "--lanes", "1")).Code);
        Dictionary<string, int> first = await machine.ProcessesAsync();
        Assert.Equal(["redis", "silo 1", "silo 2"], first.Keys);
        long sweep = (long)(await machine.JsonAsync("submit", await machine.FileAsync(Sweep)))["sweep_id"]!;
        await UntilAsync(async () => await CountAsync(machine, $"trials where sweep_id = {sweep}") > 0);

        Kill(first["silo 1"]);
        Kill(first["redis"]);
        await UntilAsync(async () => (await machine.ProcessesAsync()).Count == 1);
        Assert.Equal(0, (await machine.RunAsync("cluster", "up", "--silos", "2", "--lanes", "1")).Code);
        Dictionary<string, int> second = await machine.ProcessesAsync();
        Assert.Equal(["redis", "silo 1", "silo 2"], second.Keys);
        Assert.Equal(first["silo 2"], second["silo 2"]);

        await UntilAsync(async () => await CountAsync(machine, $"sweep where id = {sweep} and state = 'done'") == 1);
        Assert.Equal(Trials, await CountAsync(machine, $"(select distinct trial from trials where sweep_id = {sweep} and status = 'done') as distinct_trials"));

        // Another setting: what runs is left alone, and that is said. The same again says nothing.
        (int code, string said) = await machine.RunAsync("cluster", "up", "--silos", "2", "--lanes", "2");
        Assert.Equal(0, code);
        Assert.Contains("silo 1, silo 2 run on with another --lanes than is asked for now", said, StringComparison.Ordinal);
        Assert.Equal(second, await machine.ProcessesAsync());
        Assert.DoesNotContain("run on with", (await machine.RunAsync("cluster", "up", "--silos", "2", "--lanes", "1")).Said, StringComparison.Ordinal);

        // Fewer: the last is drained.
        Assert.Equal(0, (await machine.RunAsync("cluster", "up", "--silos", "1")).Code);
        Assert.Equal(["redis", "silo 1"], (await machine.ProcessesAsync()).Keys);

        JsonNode down = await machine.JsonAsync("cluster", "down");
        Assert.Equal((2, 0, true), ((int)down["ended"]!, (int)down["killed"]!, (bool)down["postgres_stopped"]!));
        Assert.All(second.Values, id => Assert.False(Child.Runs(id)));
        Assert.False(Directory.Exists(machine.ClusterFolder));
        Assert.Equal(0, (int)(await machine.JsonAsync("cluster", "down"))["ended"]!);
    }

    [Fact]
    public async Task Silos_whose_Redis_is_gone_drain_and_leave_without_it()
    {
        await using OneMachine machine = new();
        Assert.Equal(0, (await machine.RunAsync("cluster", "up", "--silos", "2", "--lanes", "1")).Code);
        long sweep = (long)(await machine.JsonAsync("submit", await machine.FileAsync(Sweep)))["sweep_id"]!;
        await UntilAsync(async () => await CountAsync(machine, $"trials where sweep_id = {sweep}") > 0);
        Kill((await machine.ProcessesAsync())["redis"]);
        JsonNode down = await machine.JsonAsync("cluster", "down");

        // Shards of half a second have ended and a Redis has been waited for; without an end to that, each silo had to be killed.
        Assert.Equal((2, 0), ((int)down["ended"]!, (int)down["killed"]!));
        Assert.Equal(0, await CountAsync(machine, "shard where state = 'leased'"));
        Assert.Equal(0, (await machine.RunAsync("database", "stop")).Code);
    }

    [Fact]
    public async Task A_silo_that_hangs_is_killed_by_down()
    {
        await using OneMachine machine = new();
        Assert.Equal(0, (await machine.RunAsync("cluster", "up", "--silos", "1")).Code);
        int silo = (await machine.ProcessesAsync())["silo 1"];
        using (Process stop = Process.Start("/bin/kill", ["-s", "STOP", $"{silo}"]))
        {
            await stop.WaitForExitAsync(Stop);
        }

        JsonNode down = await machine.JsonAsync("cluster", "down", "--drain", "0");
        Assert.Equal((2, 1), ((int)down["ended"]!, (int)down["killed"]!));
        Assert.False(Child.Runs(silo));
    }

    /// <summary>The silos know the old Redis alone: left running they would be another cluster, of which 'up' says that all is well.</summary>
    [Fact]
    public async Task A_Redis_that_hangs_and_whose_password_is_lost_is_replaced_and_the_silos_with_it()
    {
        await using OneMachine machine = new();
        Assert.Equal(0, (await machine.RunAsync("cluster", "up", "--silos", "1")).Code);
        Dictionary<string, int> first = await machine.ProcessesAsync();
        using (Process stop = Process.Start("/bin/kill", ["-s", "STOP", $"{first["redis"]}"]))
        {
            await stop.WaitForExitAsync(Stop);
        }

        await File.WriteAllTextAsync(Path.Combine(machine.ClusterFolder, "cluster.json"), "{}", Stop);
        (int code, string said) = await machine.RunAsync("cluster", "up", "--silos", "1");
        Assert.True(code == 0, said);
        Dictionary<string, int> second = await machine.ProcessesAsync();
        Assert.Equal(["redis", "silo 1"], second.Keys);
        Assert.All(first, member => Assert.NotEqual(member.Value, second[member.Key]));
        Assert.All(first.Values, id => Assert.False(Child.Runs(id)));
        JsonNode down = await machine.JsonAsync("cluster", "down");
        Assert.Equal((2, 0, true), ((int)down["ended"]!, (int)down["killed"]!, (bool)down["postgres_stopped"]!));
    }

    [Fact]
    public async Task A_name_a_number_and_a_folder_that_cannot_be_are_refused()
    {
        await using OneMachine machine = new();
        (int code, string said) = await machine.RunAsync("cluster", "up", "--silos", "1", "--cluster", "no such name");
        Assert.Equal(1, code);
        Assert.Contains("letters, digits and hyphens", said, StringComparison.Ordinal);
        (code, said) = await machine.RunAsync("cluster", "up", "--silos", "0");
        Assert.Equal(1, code);
        Assert.Contains("from 1 to 64", said, StringComparison.Ordinal);
        Directory.CreateDirectory(Path.GetDirectoryName(machine.ClusterFolder)!);
        (code, said) = await machine.RunAsync("cluster", "up", "--silos", "1");
        Assert.Equal(1, code);
        Assert.Contains("is open to other users", said, StringComparison.Ordinal);
    }

    [Fact]
    [SuppressMessage("Interoperability", "CA1416", Justification = "These tests need a Unix.")]
    public async Task What_a_killed_down_left_is_removed_by_the_next_and_nothing_of_another_cluster()
    {
        await using OneMachine machine = new();
        string clusters = Path.GetDirectoryName(machine.ClusterFolder)!;
        string left = Path.Combine(clusters, $".experiments-{Guid.NewGuid():N}"), others = Path.Combine(clusters, $".experiments-2-{Guid.NewGuid():N}");
        foreach (string folder in (string[])[clusters, left, others])
        {
            Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        await File.WriteAllTextAsync(Path.Combine(left, "cluster.json"), "{}", Stop);
        Assert.Equal(0, (int)(await machine.JsonAsync("cluster", "down"))["ended"]!);
        Assert.Equal([others], Directory.GetDirectories(clusters));
    }

    [Fact]
    public async Task Many_who_ask_at_once_see_that_nobody_holds_a_file_and_whatever_stands_in_it()
    {
        string path = Path.Combine(Path.GetTempPath(), $"experiments-state-{Guid.NewGuid():N}");
        using (await MemberFile.HoldAsync(path, Stop))
        {
            // To kill(2) these numbers are everybody, and a whole group.
            foreach (string text in (string[])["", "x", "null", "{}", "{\"process\":-1}", "{\"process\":0}"])
            {
                await File.WriteAllTextAsync(path, text, Stop);
                Assert.Equal(new MemberState(null, null, null), MemberFile.Living(path));
            }
        }

        // As a killed process leaves it.
        await File.WriteAllTextAsync(path, $"{{\"process\":{Environment.ProcessId}}}", Stop);
        Parallel.For(0, 20_000, new ParallelOptions { MaxDegreeOfParallelism = 4 }, _ => Assert.Null(MemberFile.Living(path)));
        MemberFile.ForgetLast(path);
        Assert.False(File.Exists(path));
        MemberFile.Forget(path);
    }

    [Fact]
    public async Task A_state_file_is_its_holders_alone_and_nobodys_after_it()
    {
        string path = Path.Combine(Path.GetTempPath(), $"experiments-state-{Guid.NewGuid():N}");
        Assert.Null(MemberFile.Living(path));
        using (MemberFile file = await MemberFile.HoldAsync(path, Stop))
        {
            Assert.Equal(new MemberState(Environment.ProcessId, null, null), MemberFile.Living(path));
            file.Say("127.0.0.1:1", "127.0.0.1:2");
            Assert.Equal(new MemberState(Environment.ProcessId, "127.0.0.1:1", "127.0.0.1:2"), MemberFile.Living(path));
            ClusterSiloException held = await Assert.ThrowsAsync<ClusterSiloException>(() => MemberFile.HoldAsync(path, Stop));
            Assert.Contains($"process {Environment.ProcessId}", held.Message, StringComparison.Ordinal);
        }

        Assert.Null(MemberFile.Living(path));
        Assert.True(MemberFile.Was(path));
        MemberFile.Forget(path);
        Assert.False(MemberFile.Was(path));
    }

    private static async Task<long> CountAsync(OneMachine machine, string what) =>
        (long)(await machine.JsonAsync("query", $"select count(*) as n from {what}")).AsArray()[0]!["n"]!;

    private static async Task UntilAsync(Func<Task<bool>> holds)
    {
        for (Stopwatch watch = Stopwatch.StartNew(); !await holds();)
        {
            Assert.True(watch.Elapsed < TimeSpan.FromMinutes(3), "Not so after three minutes.");
        }
    }

    private static void Kill(int id)
    {
        using Process process = Process.GetProcessById(id);
        process.Kill();
    }

    private const string Sweep = """
        name: one-machine
        seed: 12
        instances: {family: uniform, n: [512, 1024], d: 8, bound: 1, repeats: 40}
        kernels:
          - {kernel: exact, precision: float32}
          - {kernel: low-rank, degree: 3, precision: float32}
        measure: {rounds: 2, min_time: 10ms, max_noise: 0, sharing: true}
        """;
}
