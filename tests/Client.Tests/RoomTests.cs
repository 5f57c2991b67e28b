using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;
using Experiments.Results.Store;
using Experiments.Testing;

namespace Experiments.Client.Tests;

/// <summary>What a plan says of trials that are too large for this machine.</summary>
public sealed class RoomTests
{
    [Fact]
    public async Task A_plan_says_how_many_silos_have_room_for_the_largest_trial()
    {
        using TemporaryFolder folder = new();
        string sweep = folder.Write("big.yaml", """
            name: big
            seed: 1
            instances: {family: uniform, n: [64, 200000000], d: 64, bound: 1}
            kernels: [{kernel: low-rank, degree: 2}]
            """);
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        Dictionary<string, string?> environment = new() { ["EXPERIMENTS_POSTGRES"] = address.Owner };
        Assert.Contains("0 of 1 silos can run the largest, of 668 GiB", await PlanAsync(), StringComparison.Ordinal);
        await using ResultStore store = await ResultStore.OpenAsync(address, TestContext.Current.CancellationToken);

        // One that is large enough, one that is not, one that runs its own sweep alone, one that does not tell.
        foreach (string facts in (string[])[
            """{"attends": true, "memory_free_bytes": 2e12}""", """{"attends": true, "memory_free_bytes": 7e11}""",
            """{"attends": false, "memory_free_bytes": 2e12}""", "{}"])
        {
            await store.RegisterNodeAsync(new NodeRow("other", "elsewhere", 1, facts), null, TestContext.Current.CancellationToken);
        }

        Assert.Contains("1 of 3 silos can run the largest, of 668 GiB; in that cluster it goes there", await PlanAsync(), StringComparison.Ordinal);
        JsonNode json = JsonNode.Parse((await Cli.RunAsync(environment, "plan", sweep, "--json")).Expect(ExitCode.Done).Out)!;
        Assert.Equal((1, 3, 1), ((int)json["silos_with_room"]!, (int)json["silos"]!, (int)json["trials_over_memory"]!));

        // Its own limit is no machine's: nobody is asked.
        Assert.DoesNotContain("silos can run", await PlanAsync("--set", "limits.memory=1GiB"), StringComparison.Ordinal);

        async Task<string> PlanAsync(params string[] more) =>
            (await Cli.RunAsync(environment, ["plan", sweep, .. more])).Expect(ExitCode.Done).Out;
    }
}
