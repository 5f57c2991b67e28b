using System.CommandLine;
using Experiments.Client.Terminals;
using Experiments.Grains;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo;
using Experiments.Silo.Configuration;

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
    private Settings? _settings;
    private IReadOnlyList<PlugIn>? _plugIns;
    private IReadOnlyList<IReadOnlyList<PlugInIdentity>>? _others;

    public Terminal Terminal { get; } = terminal;

    public ParseResult Parsed { get; } = parsed;

    public bool Json => Parsed.GetResult(GlobalOptions.Json) is not null && Parsed.GetValue(GlobalOptions.Json);

    public bool Verbose => Parsed.GetValue(GlobalOptions.Verbose);

    /// <summary>Cancelled by the first Ctrl-C: what every verb but <c>run</c> simply stops at.</summary>
    public CancellationToken Cancellation => Terminal.Interrupts.Finish;

    public Settings Settings => _settings ??= LoadSettings();

    /// <summary>The plug-ins that the settings name, loaded once.</summary>
    /// <exception cref="CommandException">One cannot be used.</exception>
    public IReadOnlyList<PlugIn> PlugIns => _plugIns ??= Settings.LoadPlugIns();

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

    private Settings LoadSettings()
    {
        Settings settings = Settings.Load(Terminal.Environment, SharedOptions.Given(Parsed));
        Terminal.Color &= settings.Color ?? true;
        settings.ShareOtlpEndpoint();
        return settings;
    }
}

/// <summary>Options that every verb takes, and <c>--json</c> for those that list something.</summary>
internal static class GlobalOptions
{
    public static readonly Option<bool> Json = new("--json") { Description = "Print the result as JSON" };

    public static readonly Option<string> Plugins = SharedOptions.Plugins;

    public static readonly Option<bool> Verbose = SharedOptions.Verbose;

    public static readonly Option<bool> NoColor = new("--no-color")
    {
        Description = "No colours (NO_COLOR does the same)", Recursive = true,
    };

    public static readonly Option<string> Postgres = SharedOptions.Postgres;
}
