using System.CommandLine;
using Experiments.Client.Running;
using Experiments.Client.Terminals;
using Experiments.Results.Store;

namespace Experiments.Client.Verbs;

/// <summary>Validates and stores a sweep for the silos of the cluster to run, and returns.</summary>
internal static class SubmitVerb
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> sweep = SweepOptions.FileOrPreset();
        Option<string> name = SweepOptions.Name();
        Option<int?> priority = SweepOptions.Priority("0 if left out");
        Option<string[]> set = SweepOptions.Set();
        Option<bool> leave = SweepOptions.LeaveFiles();
        return new Verb("submit", "Store a sweep for the cluster's silos to run, and return")
        {
            Examples =
            [
                ("experiments submit my-sweep.yaml", "from any machine that reaches the cluster's Postgres"),
                ("experiments submit scaling --set instances.repeats=9 --json", "a preset with one value changed; its number as JSON"),
                ("experiments submit my-matrices.yaml", "over .npy files of this machine, which the silos need not see: they are stored with it"),
                ("experiments submit small.yaml --priority 10", "before what the silos are at, which goes on at a twentieth until it is done"),
            ],
            Arguments = { sweep },
            Options = { name, set, priority, leave, GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            SweepCreation creation = new(invocation, invocation.Value(sweep), invocation.Value(set), invocation.Value(name), invocation.Value(priority) ?? 0, invocation.Value(leave));
            StoreAddress address = await Stores.LocateAsync(invocation, invocation.Cancellation);
            await using ResultStore store = await ResultStore.OpenAsync(address, invocation.Cancellation);
            Prepared prepared = await creation.StoreAsync(store, invocation.Cancellation);
            if (invocation.Json)
            {
                JsonOutput.Write(terminal.Out, new System.Text.Json.Nodes.JsonObject { ["sweep_id"] = prepared.SweepId, ["name"] = prepared.Name });
            }
            else
            {
                terminal.Out.WriteLine($"Sweep {prepared.SweepId} waits for silos. Follow it with: experiments watch {prepared.SweepId}");
            }

            return ExitCode.Done;
        });
    }
}
