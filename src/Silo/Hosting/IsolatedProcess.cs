using System.Diagnostics;
using Experiments.Grains;
using Experiments.Grains.Running;
using Experiments.Results.Processes;
using Experiments.Silo.CommandLine;
using Experiments.Silo.Configuration;

namespace Experiments.Silo.Hosting;

/// <summary>A process that computes the shards which have killed silos. Started by a silo, as the silo's own program, never by a person.</summary>
public static class IsolatedProcess
{
    /// <summary>The word after the program's name that makes it one; each program that runs silos answers to it.</summary>
    public const string Verb = "isolated";

    /// <summary>How a silo of this program starts one: with the same plug-ins, and with nothing that leads to the store or the cluster.</summary>
    public static IsolationOptions OptionsOf(Settings settings) => new(
        BackgroundProcess.CommandOfThis(Verb),
        new Dictionary<string, string?>
        {
            ["EXPERIMENTS_PLUGINS"] = settings.PlugIns.Value,
            ["EXPERIMENTS_POSTGRES"] = null,
            ["EXPERIMENTS_REDIS"] = null,
            ["EXPERIMENTS_FAILPOINT"] = null,
        });

    /// <summary>Computes what standard input asks for, until it ends.</summary>
    /// <param name="workbench">Asked for when standard output is set aside: a plug-in may print while it is loaded.</param>
    /// <remarks>Signals are the silo's to answer: what a terminal or a service manager sends to all of a group changes nothing here.</remarks>
    public static ExitCode Serve(Func<Workbench> workbench, TimeProvider clock)
    {
        DieFirst();
        using Stream said = StandardStreams.TakeOutput();
        IsolatedLane.Serve(workbench(), Console.OpenStandardInput(), said, clock, ended: End);
        return ExitCode.Done;
    }

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
