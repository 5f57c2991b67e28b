using System.CommandLine;
using System.Text.Json.Nodes;
using Experiments.Client.Running;
using Experiments.Client.Terminals;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Client.Verbs;

/// <summary>The life of a stored sweep: cancel, resume, retry, watch.</summary>
internal static class LifeVerbs
{
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(0.5);
    private static readonly TimeSpan PlainEvery = TimeSpan.FromSeconds(5);

    // A process that runs the sweep holds a lease nearly all the time; this long without one, nobody runs it.
    private static readonly TimeSpan Abandoned = TimeSpan.FromSeconds(10);

    public static Command Cancel(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        return new Verb("cancel", "Stop a sweep wherever it runs, kernels in their midst; what is stored stays, and resume goes on")
        {
            Examples = [("experiments cancel 12", "stop sweep 12: whoever runs it is told at once")],
            Arguments = { id },
            Options = { GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            StoreAddress address = await Stores.LocateAsync(invocation, invocation.Cancellation);
            await using ResultStore store = await ResultStore.OpenAsync(address, invocation.Cancellation);
            long sweep = await Stores.FindSweepAsync(store, invocation.Value(id), invocation.Cancellation);
            bool cancelled = await store.SetSweepStateAsync(sweep, SweepState.Cancelled, invocation.Cancellation);
            SweepProgress progress = await store.ProgressAsync(sweep, invocation.Cancellation);
            if (invocation.Json)
            {
                JsonOutput.Write(terminal.Out, ProgressJson(sweep, progress));
            }
            else
            {
                terminal.Out.WriteLine(cancelled ? $"Sweep {sweep} is cancelled; {Format.Count(Stored(progress), "trial")} stored. "
                        + $"It goes on with: experiments resume {sweep}"
                    : progress.State == SweepState.Cancelled ? $"Sweep {sweep} was cancelled already."
                    : $"Sweep {sweep} is done; there is nothing to cancel.");
            }

            return ExitCode.Done;
        });
    }

    public static Command Resume(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        Option<int?> lanes = Lanes();
        return new Verb("resume", "Go on with a sweep that was interrupted or cancelled")
        {
            Examples =
            [
                ("experiments resume last", "the newest sweep"),
                ("experiments resume 12 --json", "sweep 12; the summary as JSON"),
            ],
            Arguments = { id },
            Options = { lanes, GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, invocation => SweepRunner.RunAsync(invocation, invocation.Value(lanes), async (store, cancellation) =>
        {
            SweepRow sweep = await RowAsync(store, invocation.Value(id), cancellation);
            if (sweep.State == SweepState.Done)
            {
                terminal.Notice($"Sweep {sweep.Id} is done already; 'experiments retry {sweep.Id}' puts failed trials back.");
                return new Prepared(sweep.Id, sweep.Name, NothingToRun: true);
            }

            CheckRunnable(invocation, sweep);
            if (sweep.State == SweepState.Cancelled)
            {
                await store.SetSweepStateAsync(sweep.Id, SweepState.Running, cancellation);
            }

            return new Prepared(sweep.Id, sweep.Name);
        }));
    }

    public static Command Retry(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        Option<bool> skipped = new("--skipped") { Description = "Also the trials that were skipped" };
        Option<int?> lanes = Lanes();
        return new Verb("retry", "Put a sweep's failed trials back and run them")
        {
            Examples =
            [
                ("experiments retry 12", "the failed trials of sweep 12"),
                ("experiments retry last --skipped", "and those that were skipped, say on a larger machine"),
            ],
            Arguments = { id },
            Options = { skipped, lanes, GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, invocation => SweepRunner.RunAsync(invocation, invocation.Value(lanes), async (store, cancellation) =>
        {
            SweepRow sweep = await RowAsync(store, invocation.Value(id), cancellation);
            CheckRunnable(invocation, sweep);
            long back = await store.RetryAsync(sweep.Id, invocation.Value(skipped), cancellation);
            if (back == 0 && sweep.State == SweepState.Done)
            {
                terminal.Notice($"Sweep {sweep.Id} has no trial to put back"
                    + (invocation.Value(skipped) ? "." : "; --skipped also takes those that were skipped."));
                return new Prepared(sweep.Id, sweep.Name, NothingToRun: true);
            }

            terminal.Notice($"{Format.Count(back, "trial")} of sweep {sweep.Id} {(back == 1 ? "is" : "are")} put back.");
            if (sweep.State == SweepState.Cancelled)
            {
                await store.SetSweepStateAsync(sweep.Id, SweepState.Running, cancellation);
            }

            return new Prepared(sweep.Id, sweep.Name);
        }));
    }

    public static Command Watch(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        return new Verb("watch", "Follow a sweep that another terminal runs, until it ends")
        {
            Examples =
            [
                ("experiments watch last", "the newest sweep"),
                ("experiments watch 12 --json", "wait for its end, then print its progress for a program"),
            ],
            Arguments = { id },
            Options = { GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            CancellationToken cancellation = invocation.Cancellation;
            await using ResultStore store = await Stores.OpenReaderAsync(invocation);
            long sweep = await Stores.FindSweepAsync(store, invocation.Value(id), cancellation);
            SweepProgress progress = await FollowAsync(store, sweep, terminal, cancellation);
            if (invocation.Json)
            {
                JsonOutput.Write(terminal.Out, ProgressJson(sweep, progress));
            }
            else
            {
                string state = progress.State switch
                {
                    SweepState.Done => "is done",
                    SweepState.Cancelled => "was cancelled",
                    _ => "is run by nobody at present",
                };
                terminal.Out.WriteLine($"Sweep {sweep} {state}: {Line(progress)}.");
                terminal.Out.WriteLine(progress.State == SweepState.Done
                    ? $"What it found: experiments show {sweep}"
                    : $"It goes on with: experiments resume {sweep}");
            }

            return SweepRunner.CodeOf(progress);
        });
    }

    private static async Task<SweepProgress> FollowAsync(
        ResultStore store, long sweep, Terminal terminal, CancellationToken cancellation)
    {
        TimeProvider clock = terminal.Clock;
        long alive = clock.GetTimestamp();
        long started = alive;
        long printed = 0;
        string last = "";
        SweepProgress first = await store.ProgressAsync(sweep, cancellation);
        SweepProgress progress = first;
        while (progress.State == SweepState.Running && clock.GetElapsedTime(alive) < Abandoned)
        {
            double rate = (Stored(progress) - Stored(first)) / Math.Max(clock.GetElapsedTime(started).TotalSeconds, 1e-3);
            string line = Line(progress) + (rate > 0
                ? $", {Format.Number(rate)}/s, "
                    + $"{Format.Duration(TimeSpan.FromSeconds(Math.Min((progress.Trials - Stored(progress)) / rate, 1e9)))} left"
                : "");
            if (terminal.ErrorIsTerminal)
            {
                // Back to the line's start, over what stood there.
                await terminal.Error.WriteAsync("\r" + line.PadRight(Math.Min(last.Length, terminal.Width - 1)));
            }
            else if (line != last && (printed == 0 || clock.GetElapsedTime(printed) >= PlainEvery))
            {
                terminal.Notice(line);
                printed = clock.GetTimestamp();
            }

            last = line;
            await Task.Delay(Poll, clock, cancellation);
            SweepProgress now = await store.ProgressAsync(sweep, cancellation);
            if (now.ShardsLeased > 0 || Stored(now) != Stored(progress))
            {
                alive = clock.GetTimestamp();
            }

            progress = now;
        }

        if (terminal.ErrorIsTerminal && last.Length > 0)
        {
            await terminal.Error.WriteLineAsync();
        }

        return progress;
    }

    private static async Task<SweepRow> RowAsync(ResultStore store, string given, CancellationToken cancellation) =>
        await store.FindSweepAsync(await Stores.FindSweepAsync(store, given, cancellation), cancellation)
            ?? throw CommandException.Invalid($"There is no sweep '{given}'. 'experiments list' shows those there are.");

    /// <summary>Before anything of the sweep is touched: a process that lacks what it needs leaves it as it is.</summary>
    internal static void CheckRunnable(Invocation invocation, SweepRow sweep)
    {
        if (invocation.Catalog.Refusal(SweepSpec.FromJson(sweep.Specification)) is string refusal)
        {
            throw CommandException.Invalid($"Sweep {sweep.Id} cannot run here: {refusal}");
        }
    }

    private static Option<int?> Lanes() => SweepOptions.Integer(
        "--lanes", "N", "How many shards run side by side, for a sweep that shares [EXPERIMENTS_LANES]", 1, 4096);

    private static long Stored(SweepProgress progress) => progress.Done + progress.Failed + progress.Skipped;

    private static string Line(SweepProgress progress) =>
        $"{Format.Count(Stored(progress))} of {Format.Count(progress.Trials, "trial")}, "
        + $"{Format.Count(progress.Failed)} failed, {Format.Count(progress.Skipped)} skipped";

    private static JsonObject ProgressJson(long sweep, SweepProgress progress) => new()
    {
        ["sweep_id"] = sweep,
        ["state"] = SweepJson.Word(progress.State),
        ["trials"] = progress.Trials,
        ["done"] = progress.Done,
        ["failed"] = progress.Failed,
        ["skipped"] = progress.Skipped,
        ["shards"] = progress.Shards,
        ["shards_done"] = progress.ShardsDone,
        ["shards_leased"] = progress.ShardsLeased,
    };
}
