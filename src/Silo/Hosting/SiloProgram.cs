using System.CommandLine;
using Experiments.Results.PrivatePostgres;
using Experiments.Silo.CommandLine;
using Experiments.Silo.Configuration;

namespace Experiments.Silo.Hosting;

/// <summary>The program <c>experiments-silo</c>: what <c>experiments silo</c> is, with nothing of the client.</summary>
/// <param name="output">Help and version.</param>
/// <param name="error">Notices and errors.</param>
public sealed class SiloProgram(
    TextWriter output, TextWriter error, Func<string, string?> environment, Interrupts interrupts, TimeProvider clock)
{
    private const string Name = "experiments-silo";

    private static readonly (string Line, string Does)[] Examples =
    [
        ("experiments-silo --redis 127.0.0.1:6379", "a silo on this machine, for sweeps that are submitted"),
        ("experiments-silo --bind 10.0.0.5 --tls-certificate node.crt --tls-key node.key --tls-authority ca.crt --health 0.0.0.0:8080 --json-log",
            "one of many machines, EXPERIMENTS_REDIS and EXPERIMENTS_POSTGRES being set"),
    ];

    public Task<int> RunAsync(IReadOnlyList<string> args) => CommandLineProgram.RunAsync(Name, Build, args, output, error);

    public RootCommand Build()
    {
        SiloOptions options = new();
        RootCommand root = new("One silo of a cluster: it takes up every running sweep of the store, until SIGTERM drains it.")
        {
            Isolated(), Database(),
        };
        foreach (Option option in (Option[])[.. options.All, SharedOptions.Postgres, SharedOptions.Verbose])
        {
            root.Options.Add(option);
        }

        root.SetAction(async (parsed, _) =>
        {
            Settings settings = Load(parsed);
            SiloProcess silo = new(settings, interrupts, Notice, clock);
            return (int)await silo.RunAsync(options.Read(parsed, settings), options.StateFile(parsed));
        });
        HelpWithExamples.Install(
            root, command => command is RootCommand ? Examples : [],
            "What is not typed comes from the environment, else from config.yaml ($XDG_CONFIG_HOME/experiments/, ~/.config/experiments/,",
            "or the file that EXPERIMENTS_CONFIG names), where EXPERIMENTS_SILO_PORT is called silo_port.",
            "",
            "Exit codes: 0 drained and left, 1 usage or invalid input, 4 Redis or the store could not be used.");
        return root;
    }

    private Command Isolated()
    {
        Command isolated = new(IsolatedProcess.Verb, "Compute the shards that standard input asks for") { Hidden = true };
        isolated.SetAction(parsed => (int)IsolatedProcess.Serve(() => PlugIns.Workbench(Load(parsed).LoadPlugIns()), clock));
        return isolated;
    }

    // Started by the private server, in the background, where this program was the first to need it.
    private Command Database()
    {
        Argument<string> folder = new("folder") { Description = "The private server's folder" };
        Command keeper = new(PostgresKeeper.Verb[1], "Stop the private server when it is idle") { folder };
        keeper.SetAction(async (parsed, _) =>
        {
            await PostgresKeeper.RunAsync(parsed.GetValue(folder)!, PostgresKeeper.IdleFromEnvironment(), interrupts.Finish);
            return (int)ExitCode.Done;
        });
        return new Command(PostgresKeeper.Verb[0], "The private server") { Hidden = true, Subcommands = { keeper } };
    }

    private Settings Load(ParseResult parsed)
    {
        Settings settings = Settings.Load(environment, SharedOptions.Given(parsed));
        settings.ShareOtlpEndpoint();
        return settings;
    }

    private void Notice(string text) => error.WriteLine(PlainText.Shown(text));
}
