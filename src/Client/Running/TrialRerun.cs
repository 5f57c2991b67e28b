using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Client.Verbs;
using Experiments.Grains.Running;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo;

namespace Experiments.Client.Running;

/// <summary>Runs one stored trial again in this process, beside nothing but the exact trials that it is paired with, and stores nothing.</summary>
internal static class TrialRerun
{
    // What the bits of a gradient may depend on, as node.facts has it: the build, its just-in-time compiler, the device class.
    private static readonly (string Fact, string Name)[] BitsDependOn =
    [
        ("build", "build"), ("runtime", "runtime"), ("cpu", "processor"), ("architecture", "architecture"), ("vector_bits", "vector width"),
    ];

    private static readonly Compared[] Columns =
    [
        new("status", "status", o => Word(o.Status)),
        new("reason", "reason", o => o.Reason),
        new("digest", "digest", o => o.Digest),
        new("loss", "loss", o => o.Loss),
        new("gradient_absolute_error", null, o => o.GradientAbsoluteError),
        new("gradient_relative_error", "error of the gradient, relative", o => o.GradientRelativeError),
        new("gradient_error_standard_error", null, o => o.GradientErrorStandardError),
        new("loss_relative_error", "error of the loss, relative", o => o.LossRelativeError),
        new("forward_relative_error", "error of the forward output, relative", o => o.ForwardRelativeError),
        new("reference_rows", null, o => o.ReferenceRows),
        new("bound_measured", "bound", o => o.BoundMeasured),
        new("max_logit", "largest logit", o => o.MaxLogit),
        new("rank", "rank", o => o.Rank),
        new("fitted_degree", null, o => o.FittedDegree),
        new("seconds_min", null, o => o.SecondsMin),
        new("seconds_median", "time of a call", o => o.SecondsMedian),
        new("seconds_mad", null, o => o.SecondsMad),
        new("speedup_over_exact", "speed-up over exact", o => o.SpeedupOverExact),
    ];

    /// <param name="given">A sweep's number, name or <c>last</c>, and after the last slash a trial's number.</param>
    /// <exception cref="CommandException">There is no such trial, or this build cannot run it.</exception>
    public static async Task<ExitCode> RunAsync(Invocation invocation, string given)
    {
        (string sweepGiven, long trial) = Parse(given);
        CancellationToken cancellation = invocation.Cancellation;
        await using ResultStore store = await Stores.OpenReaderAsync(invocation);
        long sweepId = await Stores.FindSweepAsync(store, sweepGiven, cancellation);
        TrialRow stored = new(await store.FindTrialAsync(sweepId, trial, cancellation)
            ?? throw CommandException.Invalid($"Sweep {sweepId} has stored no trial {trial}; they are numbered from 0."));
        SweepRow sweep = await store.FindSweepAsync(sweepId, cancellation)
            ?? throw CommandException.Invalid($"There is no sweep '{sweepId}' any more: it was deleted just now.");
        LifeVerbs.CheckRunnable(invocation, sweep);
        SweepPlan plan = SweepPlan.Of(sweep, invocation.Catalog);
        Place place = await FindAsync(store, plan, stored, trial, cancellation);
        NodeRow? node = await store.FindNodeAsync((int)stored["node_id"]!, cancellation);
        invocation.Terminal.Notice($"Running trial {trial} of sweep {sweepId} again: {place.Trial} on {Describe.Instance(place.Instance.Instance)}. "
            + "Nothing is stored.");
        await using SweepFiles files = new(invocation);
        TrialOutcome now = await ComputeAsync(invocation, files.Beside(store), place, trial, cancellation);
        Comparison comparison = Compare(stored, now, FactsOf(node?.Facts), FactsOf(NodeFacts.OfThisProcess(null, invocation.PlugIns).Facts));
        Write(invocation, sweep, trial, place, stored, now, comparison);
        return comparison.Verdict is Verdict.Failed or Verdict.Differs ? ExitCode.SomeFailed : ExitCode.Done;
    }

    private enum Verdict
    {
        Same,
        MayDiffer,
        Differs,
        NothingToCompare,
        Failed,
    }

    /// <param name="Label">For a person; null where only programs are told.</param>
    private sealed record Compared(string Column, string? Label, Func<TrialOutcome, object?> Now);

    /// <param name="Plan">Of the trial's part of the sweep.</param>
    /// <param name="At">Where it stands among the instance's trials.</param>
    private sealed record Place(SweepPlan Plan, InstancePlan Instance, int Shard, int At, TrialSpec Trial);

    /// <param name="Facts">What the bits may depend on: its name, what it was, what it is.</param>
    /// <param name="Reasons">Those of them that differ, as words.</param>
    private sealed record Comparison(
        Verdict Verdict, bool? SameDigest, IReadOnlyList<(string Fact, string Name, string? Stored, string? Now)> Facts, IReadOnlyList<string> Reasons,
        string Sentence);

    private static (string Sweep, long Trial) Parse(string given)
    {
        int slash = given.LastIndexOf('/');
        return slash > 0 && long.TryParse(given.AsSpan(slash + 1), NumberStyles.None, CultureInfo.InvariantCulture, out long trial)
            ? (given[..slash], trial)
            : throw CommandException.Invalid($"--trial is '{given}'; a sweep and the number of one of its trials are needed, such as 3/17 or last/0.");
    }

    /// <summary>Where the trial stands in its sweep; refused where this build expands the sweep to another trial of that number.</summary>
    private static async Task<Place> FindAsync(
        ResultStore store, SweepPlan plan, TrialRow stored, long trial, CancellationToken cancellation)
    {
        long instance = (long)stored["instance"]!;
        ShardPlace shard = await store.FindShardOfTrialAsync(plan.SweepId, trial, cancellation)
            ?? throw CommandException.Invalid($"Sweep {plan.SweepId} has no shard with a trial {trial}.");
        int at = 0;
        plan = plan.OfPart(shard.Part) ?? plan;
        for (long index = shard.FirstInstance; index < shard.EndInstance && index <= instance; index++)
        {
            if (plan.At(index) is not InstancePlan found)
            {
                continue;
            }

            for (int i = 0; index == instance && i < found.Trials.Count; i++)
            {
                TrialSpec spec = found.Trials[i];
                if (ShardLease.NumberOf(shard.FirstTrial, shard.Only, at + i) == trial && Identity.KeyOf(found.Instance, spec) == (Guid)stored["trial_key"]!)
                {
                    return new Place(plan, found, shard.Number, i, spec);
                }
            }

            at += found.Trials.Count;
        }

        throw CommandException.Invalid(
            $"Trial {trial} of sweep {plan.SweepId} was stored by a build that expands sweeps differently from this one; run it again with that build.");
    }

    /// <summary>What a lane makes of a shard that lacks only this trial: its instance drawn, its reference computed, the trial called and
    /// timed, and beside it the exact trials of its instance, as the runner does for whoever comes later.</summary>
    private static async Task<TrialOutcome> ComputeAsync(
        Invocation invocation, IFileSource files, Place place, long trial, CancellationToken cancellation)
    {
        // As a shard whose only trial it is.
        ShardLease lease = new(
            place.Plan.SweepId, place.Shard, Epoch: 0, place.Instance.Index, place.Instance.Index + 1, trial, Trials: 1, StoredTrials: 0)
        {
            Only = [place.At],
        };
        using MemoryBudget memory = MemoryBudget.OfThisMachine();
        using ComputePool pool = new(1);
        using FileCache cache = new(invocation.Settings.FilesCache, files, invocation.Terminal.Clock);
        ShardRunner runner = new(invocation.Workbench, memory, new NoReferences(), cache, invocation.Terminal.Clock);
        ShardHost host = new(pool, runner);
        OutcomeList outcomes = [];
        ShardRun run = new(place.Plan, lease, new HashSet<long>(), outcomes, cancellation);
        host.Expect(run);
        host.Begin(lease, default);
        await run.Completion;
        return outcomes.Single();
    }

    private static Comparison Compare(TrialRow stored, TrialOutcome now, JsonElement then, JsonElement here)
    {
        List<(string Fact, string Name, string? Stored, string? Now)> facts =
            [.. BitsDependOn.Select(f => (f.Fact, f.Name, Fact(then, f.Fact), Fact(here, f.Fact)))];
        string[] reasons = [.. facts.Where(f => f.Stored is null || f.Stored != f.Now)
            .Select(f => $"{f.Name} {f.Stored ?? "unknown"} then, {f.Now ?? "unknown"} now")];
        bool? same = stored["digest"] is Guid before && now.Digest is Guid after ? before == after : null;
        (Verdict verdict, string sentence) = (now.Status, same) switch
        {
            (TrialStatus.Failed or TrialStatus.Skipped, _) => (Verdict.Failed,
                $"It {(now.Status == TrialStatus.Failed ? "failed" : "was skipped")} now: {now.Reason}"),
            (_, null) => (Verdict.NothingToCompare, $"It is done now, and there is no digest to compare with: it was {stored.Text("status")} then."),
            (_, true) => (Verdict.Same, "The gradient has the same bits."),
            _ when reasons.Length > 0 => (Verdict.MayDiffer,
                $"The gradient's bits differ, which they may: {string.Join("; ", reasons)}."),
            _ => (Verdict.Differs,
                "The gradient's bits differ, on the same build and device class, where they should repeat. Look for unseeded randomness, for an order of "
                + "additions that depends on the threads, or for memory that errs."),
        };
        return new Comparison(verdict, same, facts, reasons, sentence);
    }

    private static void Write(
        Invocation invocation, SweepRow sweep, long trial, Place place, TrialRow stored, TrialOutcome now, Comparison comparison)
    {
        Terminal terminal = invocation.Terminal;
        if (invocation.Json)
        {
            JsonOutput.Write(terminal.Out, ToJson(sweep, trial, place, stored, now, comparison));
            return;
        }

        terminal.Out.WriteLine($"Trial {trial} of sweep {sweep.Id}, '{Format.Shown(sweep.Name)}': {place.Trial} on {Describe.Instance(place.Instance.Instance)}");
        terminal.Out.WriteLine();
        TextTable table = new TextTable().Left("").Right("stored", "now");
        foreach (Compared column in Columns)
        {
            object? before = stored[column.Column];
            object? after = column.Now(now);
            if (column.Label is string label && (before is not null || after is not null))
            {
                table.Row(label, Show(column.Column, before), Show(column.Column, after));
            }
        }

        foreach ((_, string name, string? before, string? after) in comparison.Facts)
        {
            table.Row(name, before ?? "-", after ?? "-");
        }

        table.Write(terminal);
        terminal.Out.WriteLine();
        terminal.Out.WriteLine(comparison.Sentence);
    }

    private static JsonObject ToJson(
        SweepRow sweep, long trial, Place place, TrialRow stored, TrialOutcome now, Comparison comparison)
    {
        JsonObject before = [];
        JsonObject after = [];
        foreach (Compared column in Columns)
        {
            before[column.Column] = JsonOutput.Value(stored[column.Column]);
            after[column.Column] = JsonOutput.Value(column.Now(now));
        }

        foreach ((string fact, _, string? then, string? here) in comparison.Facts)
        {
            before[fact] = then;
            after[fact] = here;
        }

        return new JsonObject
        {
            ["sweep_id"] = sweep.Id,
            ["trial"] = trial,
            ["kernel"] = place.Trial.ToString(),
            ["instance"] = Describe.Instance(place.Instance.Instance),
            ["verdict"] = comparison.Verdict switch
            {
                Verdict.Same => "same",
                Verdict.MayDiffer => "may_differ",
                Verdict.Differs => "differs",
                Verdict.Failed => "failed",
                _ => "nothing_to_compare",
            },
            ["same_digest"] = comparison.SameDigest,
            ["may_differ_because"] = new JsonArray([.. comparison.Reasons.Select(r => JsonValue.Create(r))]),
            ["sentence"] = comparison.Sentence,
            ["stored"] = before,
            ["now"] = after,
        };
    }

    private static string Show(string column, object? value) => value switch
    {
        null => "-",
        double seconds when column == "seconds_median" => Format.Seconds(seconds),
        double number when column is "speedup_over_exact" => Format.Number(number) + "x",
        double number => Format.Number(number),
        _ => Format.Value(value),
    };

    private static string Word(TrialStatus status) => status switch
    {
        TrialStatus.Done => "done",
        TrialStatus.Failed => "failed",
        _ => "skipped",
    };

    private static JsonElement FactsOf(string? json)
    {
        using JsonDocument document = JsonDocument.Parse(json ?? "{}");
        return document.RootElement.Clone();
    }

    private static string? Fact(JsonElement facts, string name) =>
        facts.ValueKind == JsonValueKind.Object && facts.TryGetProperty(name, out JsonElement value) && value.ToString() is { Length: > 0 } text ? text : null;

    /// <summary>The reference is computed anew: a stored one would hide what this run is to show.</summary>
    private sealed class NoReferences : IReferenceLibrary
    {
        public ReferenceRecord? Find(Guid instanceKey, CancellationToken cancellation) => null;
    }
}
