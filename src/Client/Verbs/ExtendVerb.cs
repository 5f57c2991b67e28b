using System.CommandLine;
using Experiments.Client.Running;
using Experiments.Client.Terminals;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Client.Verbs;

/// <summary>Adds trials to a stored sweep and runs them: more repeats, more values of an axis, more kernels.</summary>
internal static class ExtendVerb
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        Argument<string> file = new("file")
        {
            HelpName = "FILE", Description = "The longer sweep file; without one, the sweep's own is changed by --set", Arity = ArgumentArity.ZeroOrOne,
        };
        Option<string[]> set = SweepOptions.Set();
        Option<int?> lanes = LifeVerbs.Lanes();
        Option<bool> submit = LifeVerbs.Submit();
        Option<int?> priority = LifeVerbs.Priority();
        Option<bool> leave = SweepOptions.LeaveFiles();
        return new Verb("extend", "Add repeats, values or kernels to a sweep and run the new trials, and no others")
        {
            Examples =
            [
                ("experiments extend 12 --set instances.repeats=5", "sweep 12 had 3: two more of each instance"),
                ("experiments extend last --set kernels.1.degree=[2,4,6,8]", "more degrees on the instances that there are"),
                ("experiments extend 12 longer.yaml --submit", "what the file has beyond the sweep, on the cluster's silos"),
            ],
            Arguments = { id, file },
            Options = { set, lanes, submit, priority, leave, GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, invocation => LifeVerbs.GoOnAsync(
            invocation, invocation.Value(submit), invocation.Value(lanes),
            (store, cancellation) => PrepareAsync(
                invocation, store, invocation.Value(id), invocation.Value(file), invocation.Value(set) ?? [], invocation.Value(submit), invocation.Value(priority), invocation.Value(leave), cancellation)));
    }

    private static async Task<Prepared> PrepareAsync(
        Invocation invocation, ResultStore store, string given, string? file, string[] set, bool submit, int? priority, bool leaveFiles, CancellationToken cancellation)
    {
        if (file is null && set.Length == 0)
        {
            throw CommandException.Invalid(
                "Nothing says what to extend the sweep by: give a longer FILE, or --set such as --set instances.repeats=5.");
        }

        SweepRow sweep = await LifeVerbs.RowAsync(store, given, cancellation);
        SweepSource source = file is null ? SweepSource.Of($"the file of sweep {sweep.Id}", sweep.Source, set) : SweepSource.Find(file, set);
        SweepSpec before = SweepSpec.FromJson(sweep.Specification);
        SweepSpec longer = source.Parse(invocation.Catalog, file is null ? before : null);
        IReadOnlyList<CarriedFile> files = SweepCreation.FilesOf(longer, leaveFiles);
        SweepExtension extension;
        try
        {
            // The catalog of here, also where silos are to run it: what is added is counted and named here.
            LifeVerbs.CheckRunnable(invocation, sweep);
            CostModel model = new() { MeasuredRates = await store.MeasuredRatesAsync(cancellation) };
            extension = await Task.Run(
                () => SweepExtension.Of(
                    before, longer, invocation.Catalog, model, sweep.Shards, sweep.Trials, cancellation),
                cancellation);
        }
        catch (ArgumentException fault)
        {
            throw CommandException.Invalid($"Sweep {sweep.Id} is not extended: {fault.Message}", fault);
        }

        await LifeVerbs.PrioritiseAsync(store, sweep, priority, cancellation);
        if (extension.NewTrials == 0)
        {
            invocation.Terminal.Notice($"Sweep {sweep.Id} has all {Format.Count(sweep.Trials, "trial")} of it already.");
            if (sweep.State != SweepState.Done)
            {
                await LifeVerbs.RunningAsync(store, sweep, cancellation);
            }

            return new Prepared(sweep.Id, sweep.Name, NothingToRun: sweep.State == SweepState.Done, Added: 0);
        }

        ExtendedSweep extended = new(
            sweep.SpecificationHash, longer.ToJson(), longer.Hash, source.Text, extension.Instances, extension.Shards)
        {
            Files = files,
        };
        SweepCreation.TellOf(invocation.Terminal, files);
        if (!await store.ExtendSweepAsync(sweep.Id, extended, cancellation))
        {
            throw CommandException.Invalid($"Sweep {sweep.Id} was extended or deleted by somebody else just now; look at it, and extend it again.");
        }

        invocation.Terminal.Notice($"{Format.Count(extension.NewTrials, "trial")} on {Format.Count(extension.ExtendedInstances, "instance")} "
            + $"{(extension.NewTrials == 1 ? "is" : "are")} added to the {Format.Count(sweep.Trials)} of sweep {sweep.Id}.");
        return new Prepared(sweep.Id, sweep.Name, Added: extension.NewTrials);
    }
}
