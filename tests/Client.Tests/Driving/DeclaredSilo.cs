using System.Globalization;
using System.Text.RegularExpressions;
using Experiments.Results.Store;
using Experiments.Testing;

namespace Experiments.Client.Tests.Driving;

/// <summary>A silo as a file of <c>deploy/</c> declares it, run here: its words and variables are the file's, and only what names a place
/// (addresses, ports, files) is put where this machine has it.</summary>
public sealed partial class DeclaredSilo : IAsyncDisposable
{
    private readonly TemporaryFolder _folder;
    private readonly Child _process;

    private DeclaredSilo(TemporaryFolder folder, Child process, int health) => (_folder, _process, HealthPort) = (folder, process, health);

    public int HealthPort { get; }

    public string Said => _process.Said;

    /// <param name="words">What follows the program's name.</param>
    /// <param name="variables">As declared. Those that name a store or a Redis are given this machine's.</param>
    /// <param name="configuration">The settings file that EXPERIMENTS_CONFIG names, as it is shipped; null for none.</param>
    public static async Task<DeclaredSilo> StartAsync(
        StoreAddress store, RedisServer redis, IReadOnlyList<string> words, IReadOnlyDictionary<string, string> variables, string? configuration)
    {
        TemporaryFolder folder = new();
        (await Cli.RunAsync("certificates", folder.File("pki"))).Expect(ExitCode.Done);
        Dictionary<string, string> places = new()
        {
            ["postgres"] = store.Owner,
            ["redis"] = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{redis.Port}"),
        };
        Dictionary<string, string?> environment = new() { ["HOME"] = folder.Path, ["XDG_CONFIG_HOME"] = folder.Path, ["XDG_DATA_HOME"] = folder.Path };
        foreach ((string name, string value) in variables)
        {
            environment[name] = name switch
            {
                "EXPERIMENTS_POSTGRES" => places["postgres"],
                "EXPERIMENTS_REDIS" => places["redis"],
                "EXPERIMENTS_CONFIG" => folder.Write("config.yaml", Setting().Replace(
                    configuration ?? throw new ArgumentException("EXPERIMENTS_CONFIG is declared, and no file for it."),
                    setting => $"{setting.Groups[1].Value}: '{places[setting.Groups[1].Value]}'")),
                "HOME" or "OTEL_EXPORTER_OTLP_ENDPOINT" => environment.GetValueOrDefault(name),
                _ => value,
            };
        }

        List<string> placed = [.. words];
        Put(placed, "--bind", _ => "127.0.0.1");
        Put(placed, "--port", _ => "0");
        Put(placed, "--health", _ => "127.0.0.1:0");
        foreach (string option in (string[])["--tls-certificate", "--tls-key", "--tls-authority"])
        {
            Put(placed, option, file => Path.Combine(folder.File("pki"), Path.GetFileName(file)));
        }

        Child process = await Child.StartAsync(environment, ["dotnet", Path.Combine(AppContext.BaseDirectory, "experiments.dll"), .. placed]);
        try
        {
            await process.SaysAsync("health on ", TimeSpan.FromSeconds(60));
            return new DeclaredSilo(
                folder, process, int.Parse(Health().Match(process.Said).Groups[1].ValueSpan, CultureInfo.InvariantCulture));
        }
        catch
        {
            await process.DisposeAsync();
            folder.Dispose();
            throw;
        }
    }

    /// <summary>SIGTERM, and how it took it.</summary>
    public Task<int> StopAsync()
    {
        _process.Signal("TERM");
        return _process.EndAsync(TimeSpan.FromSeconds(40));
    }

    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync();
        _folder.Dispose();
    }

    private static void Put(List<string> words, string option, Func<string, string> place)
    {
        int at = words.IndexOf(option);
        Assert.True(at >= 0 && at + 1 < words.Count, $"no {option} in: {string.Join(' ', words)}");
        words[at + 1] = place(words[at + 1]);
    }

    [GeneratedRegex(@"^(postgres|redis):.*$", RegexOptions.Multiline)]
    private static partial Regex Setting();

    [GeneratedRegex(@"health on 127\.0\.0\.1:(\d+)")]
    private static partial Regex Health();
}
