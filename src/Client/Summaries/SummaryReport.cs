using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Client.Verbs;
using Experiments.Results.Store;

namespace Experiments.Client.Summaries;

/// <summary>The facts of a sweep and what it found, for a person or as JSON.</summary>
internal static class SummaryReport
{
    // More columns than this do not fit a terminal; the first, the last and those between at even steps are shown.
    private const int MostColumns = 8;
    private const int MostRows = 40;
    private const int MostSentences = 12;

    // What git itself shows of a commit where it must stay unique for long.
    private const int CommitDigits = 12;

    // Of a sweep that runs. Medians of so many are within a percent or so, and they are grouped in a fraction of a second beside a silo at work.
    private const long SampledTrials = 40_000;

    /// <param name="all">Whether a sweep that runs is summed up of every stored trial, however long that takes.</param>
    public static async Task WriteAsync(Invocation invocation, ResultStore store, long id, bool all, CancellationToken cancellation)
    {
        Summary summary = new(await store.SummariseAsync(id, cancellation, all ? long.MaxValue : SampledTrials)
            ?? throw CommandException.Invalid($"There is no sweep '{id}' any more: it was deleted just now."));
        IReadOnlyList<StoredFile> files = await store.FilesOfSweepAsync(id, cancellation);
        if (invocation.Json)
        {
            JsonObject json = ToJson(summary);
            json["files"] = new JsonArray([.. files.Select(f => new JsonObject { ["sha256"] = f.Sha256, ["bytes"] = f.Bytes })]);
            JsonOutput.Write(invocation.Terminal.Out, json);
        }
        else
        {
            Write(invocation.Terminal, summary, files);
        }
    }

    private static void Write(Terminal terminal, Summary summary, IReadOnlyList<StoredFile> files)
    {
        TextWriter output = terminal.Out;
        SweepFacts facts = summary.Stored.Facts;
        SweepListing sweep = facts.Sweep;
        output.WriteLine($"Sweep {sweep.Id}, {Format.Shown(sweep.Name)}: {SweepJson.Word(sweep.State)}");
        if (facts.Question is not null)
        {
            output.WriteLine(Format.Shown(facts.Question));
        }

        output.WriteLine($"{Format.Count(sweep.Stored)} of {Format.Count(sweep.Trials, "trial")} on {Format.Count(facts.Instances, "instance")}: "
            + $"{Format.Count(sweep.Done)} done, {Format.Count(sweep.Failed)} failed, {Format.Count(sweep.Skipped)} skipped. "
            + $"Created {Format.Time(sweep.CreatedAt)}"
            + (sweep.FinishedAt is DateTimeOffset finished ? $", finished after {Format.Duration(finished - sweep.CreatedAt)}." : "."));
        if (summary.Stored.Runners is SweepRunners runners)
        {
            output.WriteLine(Describe(sweep.Id, runners));
        }

        if (files.Count > 0)
        {
            output.WriteLine($"Carries {Format.Count(files.Count, "file")}, {Format.Bytes(files.Sum(f => (double)f.Bytes))}");
        }

        // Several silos of one machine, or one that was started again, differ in nothing that is said of them.
        foreach (IGrouping<string, NodeShare> nodes in summary.Stored.Nodes.GroupBy(n => $"{n.Node.Host}: {Describe(n.Node.Facts)}"))
        {
            int processes = nodes.Count();
            output.WriteLine($"Ran on {Format.Shown(nodes.Key)}{(processes > 1 ? $" ({processes} processes)" : "")}");
        }

        if (summary.Stored.Configurations.Count > 0)
        {
            output.WriteLine();
            WriteConfigurations(terminal, summary);
        }

        WriteErrors(terminal, summary);
        WriteSpeedups(terminal, summary);
        WriteFailures(terminal, summary);
        if (summary.Stored.Sampled is long sampled)
        {
            output.WriteLine();
            output.WriteLine($"The tables are of {Format.Count(sampled)} of the {Format.Count(sweep.Stored)} stored trials, whole shards: "
                + (summary.Stored.SampleHasEveryConfiguration
                    ? "some of every kernel, size and bound, the others chosen by chance."
                    : "chosen by chance; kernels of which those hold none are missing.")
                + " --all reads every one.");
        }

        output.WriteLine();
        output.WriteLine("Next:");
        if (sweep.State != SweepState.Done)
        {
            output.WriteLine($"  experiments resume {sweep.Id}");
        }

        // The same inputs give the same numbers: most failures are to be looked at first, and only then, perhaps, repeated.
        if (summary.Stored.Failures.FirstOrDefault(f => f.Status == "failed") is FailureGroup worst)
        {
            output.WriteLine($"  experiments trace {sweep.Id} {worst.ExampleTrial}");
        }
        else
        {
            output.WriteLine($"  experiments trace {sweep.Id}");
        }

        output.WriteLine($"  experiments show {sweep.Id}");
        output.WriteLine($"  experiments export {sweep.Id} --format csv -o sweep-{sweep.Id}.csv");
        output.WriteLine($"  experiments query \"select * from trials where sweep_id = {sweep.Id}{(sweep.Failed > 0 ? " and status = 'failed'" : "")} limit 10\"");
        if (sweep.State == SweepState.Done && sweep.Failed > 0)
        {
            output.WriteLine($"  experiments retry {sweep.Id} --failed    (when the fault was the machine's or is mended: the same trial on the same build fails again)");
        }
    }

    private static void WriteConfigurations(Terminal terminal, Summary summary)
    {
        IReadOnlyList<SummaryCell> rows = summary.Stored.Configurations;
        bool estimated = rows.Any(c => c.Estimated > 0), chosen = rows.Any(HasChosenDegree), threads = rows.Any(c => c.ThreadSpeedup is not null);
        int fewest = rows.Min(c => c.Configuration.Threads);
        TextTable table = new TextTable().Left("kernel").Right("trials", "failed", "skipped");
        if (chosen)
        {
            table.Right("chosen degree", "predicted error");
        }

        table.Right("median error");
        if (estimated)
        {
            table.Right("± of estimates");
        }

        table.Right("median time", "speed-up").Left("95% interval");
        if (threads)
        {
            table.Right($"over {Format.Count(fewest, "thread")}").Left("95% interval");
        }

        foreach (SummaryCell row in rows)
        {
            string[] choice = [HasChosenDegree(row) ? Range(row.FittedDegreeMin, row.FittedDegreeMax) : "-", Format.Number(row.PredictedErrorMax)];
            table.Row(
            [
                summary.Varying.Label(row.Configuration), Format.Count(row.Trials), Format.Count(row.Failed), Format.Count(row.Skipped),
                .. chosen ? choice : [],
                Error(row.ErrorMedian, row.Estimated),
                .. estimated ? [Format.Number(row.ErrorStandardError)] : Array.Empty<string>(),
                Format.Seconds(row.SecondsMedian), Times(row.Speedup?.Mean),
                row.Configuration.Kernel == "exact" ? "-" : Interval(row.Speedup),
                .. threads ? [Times(row.ThreadSpeedup?.Mean), Interval(row.ThreadSpeedup)] : Array.Empty<string>(),
            ]);
        }

        table.Write(terminal, "By kernel (error: relative, of the gradient; speed-up: over exact, paired, geometric mean)");
        if (chosen)
        {
            terminal.Out.WriteLine("  Predicted error: the largest that the kernel expected of an exponential, relative. Degree auto keeps it within the tolerance,");
            terminal.Out.WriteLine("  but for logits beyond a radius that was set.");
        }

        foreach (string line in AboutSpeedups(rows))
        {
            terminal.Out.WriteLine($"  {line}");
        }

        if (estimated)
        {
            terminal.Out.WriteLine("  ~: estimated from a sample of rows, ±: the median standard error. An estimate of less than some 4 standard errors");
            terminal.Out.WriteLine("  says how large the error is at most.");
        }
    }

    /// <summary>What the column of speed-ups leaves open: over which exact trials, where it is not plain, and why there is none.</summary>
    private static IEnumerable<string> AboutSpeedups(IReadOnlyList<SummaryCell> rows)
    {
        IReadOnlyList<KernelConfiguration> exact = [.. rows.Where(r => r.Configuration.Kernel == "exact").Select(r => r.Configuration)];
        IReadOnlyList<SummaryCell> others = [.. rows.Where(r => r.Done > 0 && Varying.IsApproximate(r.Configuration))];
        foreach (IGrouping<int, SummaryCell> alone in others.Where(r => r.Speedup is not null
            && exact.All(e => e.Precision != r.Configuration.Precision || e.Threads != r.Configuration.Threads)).GroupBy(r => r.Configuration.Threads))
        {
            yield return $"The sweep has no exact trial on {Format.Count(alone.Key, "thread")}: such speed-ups are over exact on "
                + $"{string.Join(" or ", exact.Select(e => e.Threads).Distinct().Order().Select(t => Format.Count(t, "thread")))}.";
        }

        if (exact.Count > 0 && others.Any(r => r.Speedup is null))
        {
            yield return "No speed-up: no exact trial of the same precision and gradients was done beside it.";
        }

        if (rows.Any(r => r.Configuration.Parameters?.Contains("\"gradients\": \"all\"", StringComparison.Ordinal) == true))
        {
            yield return "Gradients all: the error is the largest of those of dX, dQ, dK and dV; with a reference on rows it is dX's.";
        }
    }

    /// <summary>Whether the kernel chose its degrees, so that they are not in its name.</summary>
    private static bool HasChosenDegree(SummaryCell cell) => cell.Configuration.Degree is null && cell.FittedDegreeMin is not null;

    private static void WriteErrors(Terminal terminal, Summary summary)
    {
        List<SummaryCell> approximate = [.. summary.Stored.Bounds.Where(b => Varying.IsApproximate(b.Configuration) && (b.ErrorMedian is not null || b.Failed > 0))];
        List<double> bounds = [.. approximate.Select(b => b.Bound!.Value).Distinct().Order()];
        bool byBound = bounds.Count > 1;
        List<SummaryCell> sizes = [.. summary.Stored.Sizes.Where(s => Varying.IsApproximate(s.Configuration) && s.ErrorMedian is not null)];
        List<int> ns = [.. sizes.Select(s => s.N!.Value).Distinct().Order()];
        if ((byBound ? approximate.Count : sizes.Count) == 0 || (!byBound && ns.Count < 2))
        {
            return;
        }

        IReadOnlyList<double> columns = Thinned(byBound ? bounds : [.. ns.Select(n => (double)n)]);
        string axis = byBound ? "bound" : "n";
        TextTable table = new TextTable().Left("kernel")
            .Right([.. columns.Select(c => string.Create(CultureInfo.InvariantCulture, $"{axis} {(byBound ? c.ToString("G4", CultureInfo.InvariantCulture) : c)}"))]);
        // An error does not depend on the threads, nor is the table of errors by d.
        List<IGrouping<KernelConfiguration, (KernelConfiguration Who, double Column, double? Error, long Lost, long Estimated, string? Degree)>> rows =
        [
            .. (byBound ? approximate : sizes)
                .GroupBy(c => (Who: c.Configuration with { Threads = 1 }, Column: byBound ? c.Bound!.Value : c.N!.Value))
                .Select(g => (
                    g.Key.Who, g.Key.Column, Error: Median(g.Select(c => c.ErrorMedian)), Lost: g.Sum(c => c.Failed + c.Skipped),
                    Estimated: g.Sum(c => c.Estimated),
                    Degree: g.Any(HasChosenDegree) ? Range(g.Min(c => c.FittedDegreeMin), g.Max(c => c.FittedDegreeMax)) : null))
                .GroupBy(c => c.Who),
        ];
        bool anyLost = rows.Any(r => r.Any(c => c.Lost > 0)), anyChosen = rows.Any(r => r.Any(c => c.Degree is not null));
        Varying varying = summary.Varying with { Threads = false };
        foreach (var row in rows.Take(MostRows))
        {
            var byColumn = row.ToDictionary(c => c.Column);
            table.Row([varying.Label(row.Key), .. columns.Select(c => byColumn.TryGetValue(c, out var cell)
                ? cell.Error is null && cell.Lost > 0 ? "none done"
                    : Error(cell.Error, cell.Estimated) + (cell.Lost > 0 ? "*" : "") + (cell.Degree is string degree ? $" (degree {degree})" : "")
                : "-")]);
        }

        terminal.Out.WriteLine();
        table.Write(terminal, $"Median relative error of the gradient by {axis}"
            + (anyChosen ? ", with the degrees that were chosen" : "") + (anyLost ? " (*: some trials failed or were skipped)" : ""));
        More(terminal, rows.Count);
    }

    private static void WriteSpeedups(Terminal terminal, Summary summary)
    {
        List<SummaryCell> cells = [.. summary.Stored.Sizes.Where(s => s.Configuration.Kernel != "exact" && s.Speedup is not null)];
        List<int> ns = [.. cells.Select(c => c.N!.Value).Distinct().Order()];
        if (ns.Count < 2)
        {
            return;
        }

        bool severalD = cells.Select(c => c.D).Distinct().Skip(1).Any();
        IReadOnlyList<int> columns = Thinned(ns);
        TextTable table = new TextTable().Left("kernel");
        if (severalD)
        {
            table.Right("d");
        }

        table.Right([.. columns.Select(n => string.Create(CultureInfo.InvariantCulture, $"n {n}"))]);
        List<IGrouping<(KernelConfiguration Configuration, int D), SummaryCell>> rows = [.. cells.GroupBy(c => (c.Configuration, c.D!.Value))];
        foreach (IGrouping<(KernelConfiguration Configuration, int D), SummaryCell> row in rows.Take(MostRows))
        {
            Dictionary<int, SummaryCell> byN = row.ToDictionary(c => c.N!.Value);
            List<string> line = [summary.Varying.Label(row.Key.Configuration)];
            if (severalD)
            {
                line.Add(row.Key.D.ToString(CultureInfo.InvariantCulture));
            }

            line.AddRange(columns.Select(n => byN.TryGetValue(n, out SummaryCell? cell) ? Times(cell.Speedup!.Mean) : "-"));
            table.Row([.. line]);
        }

        terminal.Out.WriteLine();
        table.Write(terminal, "Speed-up over exact by n (above 1x: faster)");
        More(terminal, rows.Count);
        IReadOnlyList<string> sentences = summary.Crossings();
        foreach (string sentence in sentences.Take(MostSentences))
        {
            terminal.Out.WriteLine($"  {sentence}");
        }

        if (sentences.Count > MostSentences)
        {
            terminal.Out.WriteLine($"  and {sentences.Count - MostSentences} more with --json");
        }
    }

    private static void WriteFailures(Terminal terminal, Summary summary)
    {
        if (summary.Stored.Failures.Count == 0)
        {
            return;
        }

        TextTable table = new TextTable().Left("status", "kernel").Right("trials", "example").Left("reason of the example");
        foreach (FailureGroup group in summary.Stored.Failures)
        {
            table.Row(group.Status, group.Kernel, Format.Count(group.Trials), group.ExampleTrial.ToString(CultureInfo.InvariantCulture),
                group.ExampleReason ?? "");
        }

        terminal.Out.WriteLine();
        table.Write(terminal, $"Failed and skipped (one example each: experiments trace {summary.Stored.Facts.Sweep.Id} TRIAL)");
    }

    private static JsonObject ToJson(Summary summary)
    {
        SweepFacts facts = summary.Stored.Facts;
        JsonObject json = SweepJson.Of(facts.Sweep);
        json["question"] = facts.Question;
        json["seed"] = facts.Seed;
        json["instances"] = facts.Instances;
        json["specification_hash"] = facts.SpecificationHash.ToString("N");
        json["git_commit"] = facts.GitCommit;
        json["trace_id"] = facts.TraceId;
        json["sampled_trials"] = summary.Stored.Sampled;
        json["sample_has_every_configuration"] = summary.Stored.Sampled is null ? null : summary.Stored.SampleHasEveryConfiguration;
        json["runners"] = summary.Stored.Runners is SweepRunners runners
            ? new JsonObject
            {
                ["processes"] = runners.Processes,
                ["shards"] = runners.Shards,
                ["attending_silos"] = runners.Attending,
                ["last_at"] = JsonOutput.Time(runners.LastAt),
            }
            : null;
        json["nodes"] = new JsonArray([.. summary.Stored.Nodes.Select(n => new JsonObject
        {
            ["node_id"] = n.Id,
            ["name"] = n.Node.Name,
            ["host"] = n.Node.Host,
            ["process_id"] = n.Node.ProcessId,
            ["started_at"] = JsonOutput.Time(n.StartedAt),
            ["shards"] = n.Shards,
            ["trials"] = n.Trials,
            ["facts"] = JsonNode.Parse(n.Node.Facts),
        })]);
        json["kernels"] = new JsonArray([.. summary.Stored.Configurations.Select(c => With(Names(c.Configuration), c, new()
        {
            ["trials"] = c.Trials,
            ["done"] = c.Done,
            ["failed"] = c.Failed,
            ["skipped"] = c.Skipped,
            ["rank"] = c.Rank,
            ["error_median"] = JsonOutput.Number(c.ErrorMedian),
            ["error_max"] = JsonOutput.Number(c.ErrorMax),
            ["predicted_error_max"] = JsonOutput.Number(c.PredictedErrorMax),
            ["fitted_degree_min"] = c.FittedDegreeMin,
            ["fitted_degree_max"] = c.FittedDegreeMax,
            ["estimated"] = c.Estimated,
            ["error_standard_error"] = JsonOutput.Number(c.ErrorStandardError),
            ["seconds_median"] = JsonOutput.Number(c.SecondsMedian),
        }))]);
        json["by_size"] = new JsonArray([.. summary.Stored.Sizes.Select(c => With(Names(c.Configuration), c, new()
        {
            ["n"] = c.N,
            ["d"] = c.D,
            ["error_median"] = JsonOutput.Number(c.ErrorMedian),
            ["predicted_error_max"] = JsonOutput.Number(c.PredictedErrorMax),
            ["fitted_degree_min"] = c.FittedDegreeMin,
            ["fitted_degree_max"] = c.FittedDegreeMax,
            ["estimated"] = c.Estimated,
            ["error_standard_error"] = JsonOutput.Number(c.ErrorStandardError),
            ["seconds_median"] = JsonOutput.Number(c.SecondsMedian),
        }))]);
        json["by_bound"] = new JsonArray([.. summary.Stored.Bounds.Select(c => With(Names(c.Configuration), c, new()
        {
            ["bound"] = JsonOutput.Number(c.Bound),
            ["error_median"] = JsonOutput.Number(c.ErrorMedian),
            ["error_max"] = JsonOutput.Number(c.ErrorMax),
            ["predicted_error_max"] = JsonOutput.Number(c.PredictedErrorMax),
            ["fitted_degree_min"] = c.FittedDegreeMin,
            ["fitted_degree_max"] = c.FittedDegreeMax,
            ["estimated"] = c.Estimated,
            ["error_standard_error"] = JsonOutput.Number(c.ErrorStandardError),
            ["done"] = c.Done,
            ["failed"] = c.Failed,
        }, speedup: false))]);
        json["crossings"] = new JsonArray([.. summary.Crossings().Select(s => JsonValue.Create(s))]);
        json["failures"] = new JsonArray([.. summary.Stored.Failures.Select(f => new JsonObject
        {
            ["status"] = f.Status,
            ["kernel"] = f.Kernel,
            ["trials"] = f.Trials,
            ["example_trial"] = f.ExampleTrial,
            ["example_reason"] = f.ExampleReason,
        })]);
        return json;
    }

    private static JsonObject Names(KernelConfiguration c) => new()
    {
        ["kernel"] = c.Kernel,
        ["precision"] = c.Precision,
        ["threads"] = c.Threads,
        ["basis"] = c.Basis,
        ["form"] = c.Form,
        ["degree"] = c.Degree,
        ["centred"] = c.Centred,
        ["radius"] = JsonOutput.Number(c.Radius),
        ["kernel_parameters"] = c.Parameters is null ? null : JsonNode.Parse(c.Parameters),
    };

    private static JsonObject With(JsonObject names, SummaryCell cell, JsonObject rest, bool speedup = true)
    {
        foreach ((string name, JsonNode? value) in rest)
        {
            names[name] = value?.DeepClone();
        }

        if (speedup)
        {
            names["speedup"] = JsonOutput.Number(cell.Speedup?.Mean);
            names["speedup_low"] = JsonOutput.Number(cell.Speedup?.Low);
            names["speedup_high"] = JsonOutput.Number(cell.Speedup?.High);
            names["pairs"] = cell.Speedup?.Pairs ?? 0;
            names["thread_speedup"] = JsonOutput.Number(cell.ThreadSpeedup?.Mean);
            names["thread_speedup_low"] = JsonOutput.Number(cell.ThreadSpeedup?.Low);
            names["thread_speedup_high"] = JsonOutput.Number(cell.ThreadSpeedup?.High);
            names["thread_pairs"] = cell.ThreadSpeedup?.Pairs ?? 0;
        }

        return names;
    }

    private static IReadOnlyList<T> Thinned<T>(IReadOnlyList<T> values) => values.Count <= MostColumns
        ? values
        : [.. Enumerable.Range(0, MostColumns).Select(i => values[(int)Math.Round(i * (values.Count - 1) / (MostColumns - 1.0))])];

    private static void More(Terminal terminal, int rows)
    {
        if (rows > MostRows)
        {
            terminal.Out.WriteLine($"  and {rows - MostRows} more rows with --json");
        }
    }

    private static double? Median(IEnumerable<double?> values)
    {
        List<double> sorted = [.. values.OfType<double>().Order()];
        return sorted.Count == 0 ? null : 0.5 * (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]);
    }

    private static string Error(double? error, long estimated) => (estimated > 0 && error is not null ? "~" : "") + Format.Number(error);

    private static string Range(int? least, int? most) =>
        least == most ? string.Create(CultureInfo.InvariantCulture, $"{least}") : string.Create(CultureInfo.InvariantCulture, $"{least} to {most}");

    private static string Times(double? ratio) => ratio is double value ? Format.Number(value) + "x" : "-";

    private static string Interval(PairedSpeedup? speedup) => speedup is { Low: double low, High: double high }
        ? $"{Format.Number(low)} to {Format.Number(high)}"
        : "-";

    private static string Describe(long sweep, SweepRunners runners) =>
        runners.Shards > 0
            ? $"Running: {Format.Count(runners.Processes)} process{(runners.Processes == 1 ? "" : "es")} at {Format.Count(runners.Shards, "shard")}"
        : runners.Attending > 0
            ? $"Waiting: {Format.Count(runners.Attending, "silo")} that take{(runners.Attending == 1 ? "s" : "")} up every sweep, none at a shard of it"
        : runners.LastAt is DateTimeOffset last
            ? $"Nothing has run it since {Format.Time(last)}: no live process holds a shard of it. experiments resume {sweep} goes on"
        : $"Nothing has run it yet: experiments resume {sweep} does, or a silo of a cluster";

    private static string Describe(string facts)
    {
        if (JsonNode.Parse(facts) is not JsonObject node)
        {
            return "";
        }

        // Names as the silo writes them; one that an older build did not write is left out.
        string? commit = (string?)node["git_commit"];
        string?[] parts =
        [
            (string?)node["cpu"],
            (int?)node["cores"] is int cores ? Format.Count(cores, "core") : null,
            (double?)node["memory_bytes"] is double memory ? Format.Bytes(memory) : null,
            (string?)node["os"],
            (string?)node["runtime"],
            commit is null ? null : $"commit {commit[..Math.Min(commit.Length, CommitDigits)]}",
        ];
        return string.Join(", ", parts.Where(p => p is not null));
    }
}
