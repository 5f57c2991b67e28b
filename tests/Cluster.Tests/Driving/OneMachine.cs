using System.Diagnostics;
using System.Text.Json.Nodes;
using Experiments.Testing;

namespace Experiments.Cluster.Tests.Driving;

/// <summary>The command line with a data folder of its own, for the cluster that it starts on this machine.</summary>
/// <remarks>What it starts outlives it on purpose. A shell waits on a pipe whose other end is ours, and takes it down when that closes, however we end.</remarks>
internal sealed class OneMachine : IAsyncDisposable
{
    private readonly string _folder = $"/tmp/experiments-test-machine-{Guid.NewGuid().ToString("N")[..8]}";
    private readonly Dictionary<string, string?> _environment;
    private readonly Process _guardian;

    public OneMachine()
    {
        Directory.CreateDirectory(_folder);
        _environment = new() { ["XDG_DATA_HOME"] = _folder, ["XDG_CONFIG_HOME"] = _folder, ["DOTNET_TieredPGO"] = "0" };
        ProcessStartInfo start = new("/bin/sh",
            ["-c", "read _; \"$@\" cluster down --drain 0 >/dev/null 2>&1; \"$@\" database stop >/dev/null 2>&1", "guardian", .. Client([])])
        {
            RedirectStandardInput = true,
        };
        foreach (string name in start.Environment.Keys.Where(k => k.StartsWith("EXPERIMENTS_", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }

        foreach ((string name, string? value) in _environment)
        {
            start.Environment[name] = value;
        }

        _guardian = Process.Start(start)!;
    }

    public string ClusterFolder => Path.Combine(
        _folder, "experiments", "clusters", "experiments");

    public string Folder => _folder;

    /// <summary>One command to its end; its exit code and what it wrote to both outputs.</summary>
    public async Task<(int Code, string Said)> RunAsync(params string[] args)
    {
        await using Child child = await Child.StartAsync(_environment, Client(args));
        int code = await child.EndAsync(TimeSpan.FromMinutes(3));
        return (code, child.Said);
    }

    /// <summary>One command to its end, which must be good; the JSON that it wrote.</summary>
    public async Task<JsonNode> JsonAsync(params string[] args)
    {
        (int code, string said) = await RunAsync([.. args, "--json"]);
        Assert.True(code == 0, said);
        return JsonNode.Parse(said[said.IndexOfAny(['{', '['])..])!;
    }

    /// <summary>The numbers of the processes that run, by name.</summary>
    public async Task<Dictionary<string, int>> ProcessesAsync() => (await JsonAsync("cluster", "status"))["members"]!.AsArray()
        .Where(m => m!["process"] is not null).ToDictionary(m => (string)m!["name"]!, m => (int)m!["process"]!);

    public async Task<string> FileAsync(string text)
    {
        string file = Path.Combine(_folder, $"{Guid.NewGuid():N}.yaml");
        await File.WriteAllTextAsync(file, text);
        return file;
    }

    public async ValueTask DisposeAsync()
    {
        _guardian.StandardInput.Close();
        await _guardian.WaitForExitAsync();
        _guardian.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static string[] Client(string[] args) => ["dotnet", Path.Combine(AppContext.BaseDirectory, "experiments.dll"), .. args];
}
