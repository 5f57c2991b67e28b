using System.CommandLine;
using System.Text.Json.Nodes;
using Experiments.Client.Running;
using Experiments.Client.Terminals;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo.Configuration;

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
        Option<bool> submit = Submit();
        Option<int?> priority = Priority();
        return new Verb("resume", "Go on with a sweep that was interrupted or cancelled")
        {
            Examples =
            [
                ("experiments resume last", "the newest sweep"),
                ("experiments resume 12 --json", "sweep 12; the summary as JSON"),
                ("experiments resume 12 --submit", "leave it to the cluster's silos, and return"),
                ("experiments resume 12 --submit --priority 10", "the same, and before others; also while silos run it"),
            ],
            Arguments = { id },
            Options = { lanes, submit, priority, GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, invocation => GoOnAsync(invocation, invocation.Value(submit), invocation.Value(lanes), async (store, cancellation) =>
        {
            SweepRow sweep = await RowAsync(store, invocation.Value(id), cancellation);
            if (sweep.State == SweepState.Done)
            {
                terminal.Notice($"Sweep {sweep.Id} is done already; 'experiments retry {sweep.Id}' puts failed trials back.");
                return new Prepared(sweep.Id, sweep.Name, NothingToRun: true);
            }

            CheckRunnable(invocation, sweep, invocation.Value(submit));
            await PrioritiseAsync(store, sweep, invocation.Value(priority), cancellation);
            await RunningAsync(store, sweep, cancellation);
            return new Prepared(sweep.Id, sweep.Name);
        }));
    }

    public static Command Retry(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        Option<bool> failed = new("--failed") { Description = "The trials that failed, after all their tries; what is meant where neither is given" };
        Option<bool> skipped = new("--skipped") { Description = "The trials that were skipped; with --failed, both" };
        Option<int?> lanes = Lanes();
        Option<bool> submit = Submit();
        Option<int?> priority = Priority();
        return new Verb("retry", "Put a sweep's failed or skipped trials back and run them, and no others")
        {
            Examples =
            [
                ("experiments retry 12 --failed", "the failed trials of sweep 12"),
                ("experiments retry last --skipped", "those that were skipped, say on a machine with more memory"),
                ("experiments retry 12 --failed --skipped --submit", "both, on the cluster's silos"),
            ],
            Arguments = { id },
            Options = { failed, skipped, lanes, submit, priority, GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, invocation => GoOnAsync(invocation, invocation.Value(submit), invocation.Value(lanes), async (store, cancellation) =>
        {
            SweepRow sweep = await RowAsync(store, invocation.Value(id), cancellation);
            CheckRunnable(invocation, sweep, invocation.Value(submit));
            await PrioritiseAsync(store, sweep, invocation.Value(priority), cancellation);
            bool skippedOnes = invocation.Value(skipped);
            bool failedOnes = invocation.Value(failed) || !skippedOnes;
            long back = await store.RetryAsync(sweep.Id, failedOnes, skippedOnes, cancellation);
            terminal.Notice(Retried(sweep.Id, back, failedOnes, skippedOnes, await store.ProgressAsync(sweep.Id, cancellation)));
            if (back == 0 && sweep.State == SweepState.Done)
            {
                return new Prepared(sweep.Id, sweep.Name, NothingToRun: true);
            }

            await RunningAsync(store, sweep, cancellation);
            return new Prepared(sweep.Id, sweep.Name, PutBack: back);
        }));
    }

    /// <summary>What was put back, and what was not although it may have been meant.</summary>
    private static string Retried(long sweep, long back, bool failed, bool skipped, SweepProgress left)
    {
        string done = back == 0 ? $"Sweep {sweep} has no {(failed, skipped) switch { (true, true) => "failed or skipped", (true, _) => "failed", _ => "skipped" }} trial to put back"
            : $"{Format.Count(back, "trial")} of sweep {sweep} {(back == 1 ? "is" : "are")} put back";

        // What is counted still lies in shards that someone holds a lease of.
        long held = (failed ? left.Failed : 0) + (skipped ? left.Skipped : 0);
        return held > 0 ? $"{done}; {Format.Count(held)} {(held == 1 ? "lies in a shard" : "lie in shards")} that run now: retry again when they have ended."
            : failed && !skipped && left.Skipped > 0 ? $"{done}; {Format.Count(left.Skipped)} skipped: --skipped puts those back."
            : skipped && !failed && left.Failed > 0 ? $"{done}; {Format.Count(left.Failed)} failed: --failed puts those back."
            : $"{done}.";
    }

    /// <summary>Runs here what was prepared, or leaves it to silos.</summary>
    internal static async Task<ExitCode> GoOnAsync(
        Invocation invocation, bool submit, int? lanes, Func<ResultStore, CancellationToken, Task<Prepared>> prepare)
    {
        if (!submit)
        {
            return await SweepRunner.RunAsync(invocation, lanes, prepare);
        }

        StoreAddress address = await Stores.LocateAsync(invocation, invocation.Cancellation);
        await using ResultStore store = await ResultStore.OpenAsync(address, invocation.Cancellation);
        Prepared prepared = await prepare(store, invocation.Cancellation);
        SweepProgress progress = await store.ProgressAsync(prepared.SweepId, invocation.Cancellation);
        if (invocation.Json)
        {
            JsonObject json = ProgressJson(prepared.SweepId, progress);
            if (prepared.PutBack is long back)
            {
                json["put_back"] = back;
            }

            if (prepared.Added is long added)
            {
                json["added"] = added;
            }

            JsonOutput.Write(invocation.Terminal.Out, json);
        }
        else if (!prepared.NothingToRun)
        {
            invocation.Terminal.Out.WriteLine($"Sweep {prepared.SweepId} waits for silos. Follow it with: experiments watch {prepared.SweepId}");
        }

        return ExitCode.Done;
    }

    internal static async Task RunningAsync(ResultStore store, SweepRow sweep, CancellationToken cancellation)
    {
        if (sweep.State == SweepState.Cancelled)
        {
            await store.SetSweepStateAsync(sweep.Id, SweepState.Running, cancellation);
        }
    }

    /// <summary>Before the sweep goes on, so that no shard of it is leased by the priority of before.</summary>
    internal static async Task PrioritiseAsync(ResultStore store, SweepRow sweep, int? priority, CancellationToken cancellation)
    {
        if (priority is int wanted && wanted != sweep.Priority)
        {
            await store.SetPriorityAsync(sweep.Id, wanted, cancellation);
        }
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

    internal static async Task<SweepRow> RowAsync(ResultStore store, string given, CancellationToken cancellation) =>
        await store.FindSweepAsync(await Stores.FindSweepAsync(store, given, cancellation), cancellation)
            ?? throw CommandException.Invalid($"There is no sweep '{given}'. 'experiments list' shows those there are.");

    /// <summary>Before anything of the sweep is touched: a process that lacks what it needs leaves it as it is.</summary>
    /// <param name="elsewhere">Others are to run it, who may have what is not here.</param>
    internal static void CheckRunnable(Invocation invocation, SweepRow sweep, bool elsewhere = false)
    {
        if (!elsewhere && invocation.Catalog.Refusal(SweepSpec.FromJson(sweep.Specification)) is string refusal)
        {
            throw CommandException.Invalid($"Sweep {sweep.Id} cannot run here: {refusal}");
        }
    }

    internal static Option<bool> Submit() => new("--submit") { Description = "Leave it to the silos of the cluster, as submit does, and return" };

    internal static Option<int?> Priority() => SweepOptions.Priority("the sweep's own if left out");

    internal static Option<int?> Lanes() => SweepOptions.Integer(
        "--lanes", "N", "How many shards run side by side, for a sweep that shares [EXPERIMENTS_LANES]", 1, Settings.MostLanes);

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
