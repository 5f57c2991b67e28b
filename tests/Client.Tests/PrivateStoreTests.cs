using System.Diagnostics;
using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;

namespace Experiments.Client.Tests;

// Silos and servers of several tests at once would only slow each other down.
[Collection("silo")]
public sealed class PrivateStoreTests
{
    [Fact]
    public async Task A_folder_without_a_server_named_for_its_programs_is_what_the_doctor_finds_missing()
    {
        using TemporaryFolder folder = new();
        Dictionary<string, string?> environment = new()
        {
            ["XDG_DATA_HOME"] = folder.Path,
            ["XDG_CONFIG_HOME"] = folder.Path,
            ["EXPERIMENTS_POSTGRES_BIN"] = folder.Path,
            ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://me:hidden@127.0.0.1:9",
        };
        Ran ran = (await ClientProcess.RunAsync(environment, "doctor", "--json")).Expect(ExitCode.StoreUnreachable);
        JsonNode programs = JsonNode.Parse(ran.Out)!.AsArray().Single(c => (string)c!["check"]! == "postgres programs")!;
        Assert.False((bool)programs["ok"]!);
        Assert.Contains($"EXPERIMENTS_POSTGRES_BIN is {folder.Path}", (string)programs["do"]!, StringComparison.Ordinal);
        Assert.DoesNotContain("hidden", ran.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task With_nothing_configured_a_run_starts_its_own_server_and_stop_leaves_no_process()
    {
        using TemporaryFolder folder = new();
        if (!OperatingSystem.IsWindows())
        {
            // As root the server runs as another user, who must get into the folder.
            File.SetUnixFileMode(folder.Path, (UnixFileMode)0b111_101_101);
        }

        Directory.CreateDirectory(folder.File("experiments"));
        Dictionary<string, string?> environment = new()
        {
            ["XDG_DATA_HOME"] = folder.Path,
            ["XDG_CONFIG_HOME"] = folder.Path,
            ["EXPERIMENTS_POSTGRES_IDLE"] = "2min",
        };
        int server = 0;
        try
        {
            string file = folder.Write("tiny.yaml", StoredSweep.Tiny);
            // Two at once share one server.
            using ClientProcess first = ClientProcess.Start(environment, "run", file);
            using ClientProcess second = ClientProcess.Start(environment, "run", file, "--json");
            (await first.EndAsync()).Expect(ExitCode.Done);
            Ran ran = (await second.EndAsync()).Expect(ExitCode.Done);
            Assert.Equal(24, (int)JsonNode.Parse(ran.Out)!["done"]!);
            JsonNode sweeps = JsonNode.Parse((await ClientProcess.RunAsync(environment, "list", "--json")).Expect(ExitCode.Done).Out)!;
            Assert.Equal(2, sweeps.AsArray().Count);
            JsonNode status = JsonNode.Parse((await ClientProcess.RunAsync(environment, "database", "status", "--json")).Out)!;
            Assert.True((bool)status["running"]!);
            server = (int)status["process_id"]!;
        }
        finally
        {
            (await ClientProcess.RunAsync(environment, "database", "stop")).Expect(ExitCode.Done);
        }

        Assert.False(IsAlive(server), $"process {server} outlived its stop");
        JsonNode after = JsonNode.Parse((await ClientProcess.RunAsync(environment, "database", "--json")).Out)!;
        Assert.False((bool)after["running"]!);
    }

    // A process that ended may stay in the table until its parent, here whatever took the server over, asks for it.
    private static bool IsAlive(int id)
    {
        string status = $"/proc/{id}/stat";
        try
        {
            return File.Exists(status)
                ? !File.ReadAllText(status).Contains(") Z ", StringComparison.Ordinal)
                : !OperatingSystem.IsLinux() && Process.GetProcesses().Any(p => p.Id == id);
        }
        catch (IOException)
        {
            // It went between the two looks.
            return false;
        }
    }
}
