using System.CommandLine;
using Experiments.Client.Terminals;
using Experiments.Silo.Hosting;

namespace Experiments.Client.Verbs;

/// <summary>Runs a silo of a cluster until it is told to stop: what <c>experiments-silo</c> does, for whoever has this program anyway.</summary>
internal static class SiloVerb
{
    public static Command Create(Terminal terminal)
    {
        SiloOptions options = new();
        Verb verb = new Verb("silo", "Run a silo of a cluster: it takes up every running sweep of the store")
        {
            Examples =
            [
                ("experiments silo --redis 127.0.0.1:6379", "a silo on this machine, for sweeps that are submitted"),
                ("experiments silo --bind 10.0.0.5 --tls-certificate node.crt --tls-key node.key --tls-authority ca.crt --health 0.0.0.0:8080 --json-log",
                    "one of many machines, EXPERIMENTS_REDIS and EXPERIMENTS_POSTGRES being set"),
            ],
        }.Runs(terminal, invocation =>
        {
            SiloProcess silo = new(invocation.Settings, terminal.Interrupts, terminal.Notice, terminal.Clock);
            return silo.RunAsync(options.Read(invocation.Parsed, invocation.Settings), options.StateFile(invocation.Parsed));
        });
        foreach (Option option in options.All)
        {
            verb.Options.Add(option);
        }

        return verb;
    }
}
