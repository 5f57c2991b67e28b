using System.CommandLine;
using Experiments.Client.Running;
using Experiments.Client.Terminals;
using Experiments.Silo.Configuration;

namespace Experiments.Client.Verbs;

/// <summary>Validates, stores and runs a sweep in this process, shows its progress, prints what it found. Or runs one stored trial
/// again, to compare.</summary>
internal static class RunVerb
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> sweep = SweepOptions.FileOrPreset();
        Option<string> name = SweepOptions.Name();
        Option<int?> priority = SweepOptions.Priority("0 if left out");
        Option<int?> lanes = SweepOptions.Integer("--lanes", "N", "How many shards run side by side, for a sweep that shares [EXPERIMENTS_LANES]", 1, Settings.MostLanes);
        Option<string[]> set = SweepOptions.Set();
        Option<bool> leave = SweepOptions.LeaveFiles();
        Option<string> trial = new("--trial")
        {
            HelpName = "ID/TRIAL",
            Description = "Instead: run one stored trial again, alone, and print it beside what is stored; stores nothing",
        };
        sweep.Arity = ArgumentArity.ZeroOrOne;
        Verb verb = new("run", "Run a sweep here to its end and print what it found")
        {
            Examples =
            [
                ("experiments run quickstart", "a preset, from nothing: a private Postgres is started"),
                ("experiments run my-sweep.yaml --name first-try", "a file of your own, under another name"),
                ("experiments run quickstart --set instances.repeats=2 --json", "with one value changed; the summary as JSON"),
                ("experiments run --trial 3/17", "trial 17 of sweep 3 again: does its gradient have the same bits here?"),
            ],
            Arguments = { sweep },
            Options = { name, lanes, set, priority, leave, trial, GlobalOptions.Plugins, GlobalOptions.Json },
        };
        verb.Validators.Add(result =>
        {
            bool alone = result.GetResult(trial) is not null;
            if (alone && (result.GetResult(sweep) is { Tokens.Count: > 0 } || new Option[] { name, lanes, set, priority, leave }.Any(o => result.GetResult(o) is { Implicit: false })))
            {
                result.AddError("--trial runs a trial as it is stored: leave FILE|PRESET, --name, --lanes, --set, --priority and --leave-files out.");
            }
            else if (!alone && result.GetResult(sweep) is not { Tokens.Count: > 0 })
            {
                result.AddError($"'experiments run' needs {sweep.HelpName}: {sweep.Description}");
            }
        });
        return verb.Runs(terminal, invocation =>
        {
            if (invocation.Value(trial) is string again)
            {
                return TrialRerun.RunAsync(invocation, again);
            }

            SweepCreation creation = new(invocation, invocation.Value(sweep), invocation.Value(set), invocation.Value(name), invocation.Value(priority) ?? 0, invocation.Value(leave));
            return SweepRunner.RunAsync(invocation, invocation.Value(lanes), creation.StoreAsync);
        });
    }
}
