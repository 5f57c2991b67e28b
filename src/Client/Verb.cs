using System.CommandLine;
using Experiments.Client.Configuration;
using Experiments.Client.Terminals;
using Experiments.Grains;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo;

namespace Experiments.Client;

/// <summary>A verb of the command line: a command with examples in its help.</summary>
internal sealed class Verb(string name, string summary) : Command(name, summary)
{
    /// <summary>Command lines that work as they stand, each with what it does.</summary>
    public IReadOnlyList<(string Line, string Does)> Examples { get; init; } = [];

    /// <summary>What runs. The terminal is the tree's.</summary>
    public Verb Runs(Terminal terminal, Func<Invocation, Task<ExitCode>> action)
    {
        SetAction(async (ParseResult parsed, CancellationToken _) => (int)await action(new Invocation(parsed, terminal)));
        return this;
    }
}

/// <summary>One call of a verb: what was typed, the terminal, the settings.</summary>
internal sealed class Invocation(ParseResult parsed, Terminal terminal)
{
    private ClientSettings? _settings;
    private IReadOnlyList<PlugIn>? _plugIns;
    private IReadOnlyList<IReadOnlyList<PlugInIdentity>>? _others;

    public Terminal Terminal { get; } = terminal;

    public ParseResult Parsed { get; } = parsed;

    public bool Json => Parsed.GetResult(GlobalOptions.Json) is not null && Parsed.GetValue(GlobalOptions.Json);

    public bool Verbose => Parsed.GetValue(GlobalOptions.Verbose);

    /// <summary>Cancelled by the first Ctrl-C: what every verb but <c>run</c> simply stops at.</summary>
    public CancellationToken Cancellation => Terminal.Interrupts.Finish;

    public ClientSettings Settings => _settings ??= LoadSettings();

    /// <summary>The plug-ins that the settings name, loaded once.</summary>
    /// <exception cref="CommandException">One cannot be used.</exception>
    public IReadOnlyList<PlugIn> PlugIns => _plugIns ??= LoadPlugIns();

    /// <summary>What can run here: the built-in kernels and families, and those of plug-ins.</summary>
    public Workbench Workbench => Experiments.Silo.PlugIns.Workbench(PlugIns);

    /// <summary>What sweep files are checked against.</summary>
    public Catalog Catalog => BuiltInCatalog.Create(Workbench) with { Others = () => _others ??= Others() };

    public T? Value<T>(Option<T> option) => Parsed.GetValue(option);

    public T Value<T>(Argument<T> argument) => Parsed.GetValue(argument)!;

    // Asked for a sentence only, on a thread that has nothing else to do; a store that is not up is not started for it.
    private IReadOnlyList<IReadOnlyList<PlugInIdentity>> Others() => Task.Run(async () =>
    {
        if (await StoreLocator.PeekAsync(Settings.Postgres.Value, Cancellation) is not ResultStore store)
        {
            return [];
        }

        await using (store)
        {
            return await store.LivePlugInsAsync(Environment.MachineName, Environment.ProcessId, Cancellation);
        }
    }).GetAwaiter().GetResult();

    private ClientSettings LoadSettings()
    {
        ClientSettings settings = ClientSettings.Load(Terminal, new Dictionary<string, string?>
        {
            ["postgres"] = Parsed.GetValue(GlobalOptions.Postgres),
            ["plugins"] = Parsed.GetResult(GlobalOptions.Plugins) is null ? null : Parsed.GetValue(GlobalOptions.Plugins),
        });
        Terminal.Color &= settings.Color ?? true;
        if (settings.OtlpEndpoint is { Value: string endpoint } otlp && otlp.Source == settings.File)
        {
            // OpenTelemetry reads the environment alone, and all else that goes with the endpoint is there.
            Environment.SetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        }

        return settings;
    }

    private IReadOnlyList<PlugIn> LoadPlugIns()
    {
        Setting setting = Settings.PlugIns;
        try
        {
            return Experiments.Silo.PlugIns.Load(setting.Value);
        }
        catch (PlugInException fault)
        {
            throw CommandException.Invalid(
                setting.Source == "--plugins" ? fault.Message : $"{setting.Source}: {fault.Message}", fault);
        }
    }
}

/// <summary>Options that every verb takes, and <c>--json</c> for those that list something.</summary>
internal static class GlobalOptions
{
    public static readonly Option<bool> Json = new("--json") { Description = "Print the result as JSON" };

    /// <summary>For every verb that checks a sweep file or starts a silo.</summary>
    public static readonly Option<string> Plugins = new("--plugins")
    {
        Description = "Folder of kernels and families of your own [EXPERIMENTS_PLUGINS]", HelpName = "DIR",
    };

    public static readonly Option<bool> Verbose = new("--verbose")
    {
        Description = "Show stack traces with errors", Recursive = true,
    };

    public static readonly Option<bool> NoColor = new("--no-color")
    {
        Description = "No colours (NO_COLOR does the same)", Recursive = true,
    };

    public static readonly Option<string> Postgres = new("--postgres")
    {
        Description = "Npgsql connection string of the store [EXPERIMENTS_POSTGRES]; none: a private server",
        HelpName = "CONNECTION",
        Recursive = true,
    };
}
