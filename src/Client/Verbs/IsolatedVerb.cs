using System.Diagnostics;
using Experiments.Client.Terminals;
using Experiments.Grains.Running;
using Experiments.Results.Processes;

namespace Experiments.Client.Verbs;

/// <summary>A process that computes the shards which have killed silos. Started by a silo, never by a person.</summary>
internal static class IsolatedVerb
{
    private const string Name = "isolated";

    /// <summary>How a silo of this command starts one: with the same plug-ins, and with nothing that leads to the store or the cluster.</summary>
    public static IsolationOptions OptionsOf(Invocation invocation) => new(
        BackgroundProcess.CommandOfThis(Name),
        new Dictionary<string, string?>
        {
            ["EXPERIMENTS_PLUGINS"] = invocation.Settings.PlugIns.Value,
            ["EXPERIMENTS_POSTGRES"] = null,
            ["EXPERIMENTS_REDIS"] = null,
            ["EXPERIMENTS_FAILPOINT"] = null,
        });

    // Signals are the silo's to answer: what a terminal or a service manager sends to all of a group changes nothing here.
    public static Verb Create(Terminal terminal) =>
        new Verb(Name, "Compute the shards that standard input asks for")
        {
            Hidden = true,
        }.Runs(terminal, invocation =>
        {
            DieFirst();
            using Stream said = StandardStreams.TakeOutput();
            IsolatedLane.Serve(invocation.Workbench, Console.OpenStandardInput(), said, terminal.Clock, ended: End);
            return Task.FromResult(ExitCode.Done);
        });

    /// <summary>Where memory runs out, Linux is to end this process and not the silo, which is as large.</summary>
    private static void DieFirst()
    {
        const string Score = "/proc/self/oom_score_adj";
        try
        {
            if (File.Exists(Score))
            {
                File.WriteAllText(Score, "1000");
            }
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            // Then it is the system's choice.
        }
    }

    private static void End()
    {
        using Process self = Process.GetCurrentProcess();
        self.Kill();
    }
}
