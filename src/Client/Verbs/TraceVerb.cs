using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;

namespace Experiments.Client.Verbs;

/// <summary>The waterfall of a shard or of a trial, from the stored spans.</summary>
internal static class TraceVerb
{
    private const int MostSpans = 200;
    private const int BarWidth = 40;

    public static Command Create(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        Argument<long?> trial = new("trial")
        {
            HelpName = "TRIAL", Arity = ArgumentArity.ZeroOrOne,
            Description = "A trial's number; none: the shard that took longest",
            CustomParser = result =>
            {
                string text = result.Tokens[0].Value;
                if (long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long number))
                {
                    return number;
                }

                result.AddError($"TRIAL is '{text}'; a trial's number, from 0, is needed.");
                return null;
            },
        };
        Option<int?> shard = SweepOptions.Integer("--shard", "N", "This shard instead of the one that took longest", 0);
        return new Verb("trace", "Show where a shard's or a trial's time went")
        {
            Examples =
            [
                ("experiments trace last", "the shard that took longest"),
                ("experiments trace 12 41", "trial 41 of sweep 12, and what it was part of"),
                ("experiments trace 12 --shard 3 --json", "shard 3, for a program"),
            ],
            Arguments = { id, trial },
            Options = { shard, GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            CancellationToken cancellation = invocation.Cancellation;
            await using ResultStore store = await Stores.OpenReaderAsync(invocation);
            long sweep = await Stores.FindSweepAsync(store, invocation.Value(id), cancellation);
            long? number = invocation.Value(trial);
            TrialRow? outcome = null;
            Guid traceId;
            long shardNumber;
            if (number is long wanted)
            {
                outcome = new TrialRow(await store.FindTrialAsync(sweep, wanted, cancellation)
                    ?? throw CommandException.Invalid($"Sweep {sweep} has stored no trial {wanted}; they are numbered from 0."));
                traceId = Guid.ParseExact(outcome.Text("trace_id")!, "N");
                shardNumber = (int)outcome["shard"]!;
            }
            else
            {
                ShardTrace root = await store.FindTraceAsync(sweep, invocation.Value(shard), cancellation)
                    ?? throw CommandException.Invalid(invocation.Value(shard) is int asked
                        ? $"Sweep {sweep} has stored no trace of a shard {asked}: it is not done yet, or was not traced (OTEL_TRACES_SAMPLER)."
                        : $"Sweep {sweep} has stored no trace: no shard is done yet, or none was traced (OTEL_TRACES_SAMPLER).");
                traceId = root.TraceId;
                shardNumber = root.Shard;
            }

            List<Node> all = Tree(await store.SpansAsync(traceId, cancellation));
            List<Node> nodes = number is null ? all : OfTrial(all, number.Value);
            if (invocation.Json)
            {
                JsonOutput.Write(terminal.Out, ToJson(sweep, shardNumber, number, traceId, outcome, nodes));
            }
            else
            {
                Write(terminal, sweep, shardNumber, number, traceId, outcome, nodes);
            }

            return ExitCode.Done;
        });
    }

    private sealed record Node(SpanRecord Span, int Depth, IReadOnlyList<ulong> Above)
    {
        public DateTimeOffset End => Span.StartedAt + TimeSpan.FromSeconds(Span.DurationSeconds);
    }

    /// <summary>Depth first, children by start. A span whose parent was not stored is a root.</summary>
    private static List<Node> Tree(IReadOnlyList<SpanRecord> spans)
    {
        HashSet<ulong> ids = [.. spans.Select(s => s.SpanId)];
        ILookup<ulong, SpanRecord> children = spans.ToLookup(s => ids.Contains(s.ParentId) ? s.ParentId : 0);
        List<Node> nodes = [];
        HashSet<ulong> seen = [];
        Visit(0, 0, []);
        return nodes;

        void Visit(ulong parent, int depth, IReadOnlyList<ulong> above)
        {
            foreach (SpanRecord span in children[parent])
            {
                if (seen.Add(span.SpanId))
                {
                    nodes.Add(new Node(span, depth, above));
                    Visit(span.SpanId, depth + 1, [.. above, span.SpanId]);
                }
            }
        }
    }

    /// <summary>A trial's spans, what they are part of, and what is part of them.</summary>
    private static List<Node> OfTrial(List<Node> all, long trial)
    {
        HashSet<ulong> own = [.. all.Where(n => n.Span.Trial == trial).Select(n => n.Span.SpanId)];
        HashSet<ulong> above = [.. all.Where(n => own.Contains(n.Span.SpanId)).SelectMany(n => n.Above)];
        return [.. all.Where(n => own.Contains(n.Span.SpanId) || above.Contains(n.Span.SpanId) || n.Above.Any(own.Contains)
            || (own.Count == 0 && n.Depth == 0))];
    }

    private static void Write(
        Terminal terminal, long sweep, long shard, long? trial, Guid traceId, TrialRow? row, List<Node> nodes)
    {
        TextWriter output = terminal.Out;
        output.WriteLine($"Sweep {sweep}, shard {shard}" + (trial is null ? "" : $", trial {trial}") + $", trace {traceId:N}");
        if (row is not null)
        {
            output.WriteLine($"{row.Text("kernel")} {row.Text("precision")}"
                + (row["degree"] is int degree ? $" degree {degree}" : "")
                + $" at n = {row["n"]}, d = {row["d"]}: {row.Text("status")}, {Format.Seconds(row.Real("seconds_median"))} a call"
                + (row.Text("reason") is string reason ? $" ({Format.Shown(reason)})" : ""));
        }

        output.WriteLine();
        if (nodes.Count > 0)
        {
            DateTimeOffset start = nodes.Min(n => n.Span.StartedAt);
            double whole = Math.Max((nodes.Max(n => n.End) - start).TotalSeconds, 1e-9);
            TextTable table = new TextTable().Left("span").Right("starts", "lasts").Left("waterfall");
            foreach (Node node in nodes.Take(MostSpans))
            {
                table.Row(new string(' ', 2 * node.Depth) + node.Span.Name + (node.Span.Error is null ? "" : " (error)"),
                    "+" + Format.Seconds((node.Span.StartedAt - start).TotalSeconds), Format.Seconds(node.Span.DurationSeconds),
                    Bar((node.Span.StartedAt - start).TotalSeconds / whole, node.Span.DurationSeconds / whole, terminal));
            }

            table.Write(terminal);
            if (nodes.Count > MostSpans)
            {
                output.WriteLine($"and {nodes.Count - MostSpans} more spans with --json");
            }

            foreach (Node node in nodes.Where(n => n.Span.Error is not null).Take(5))
            {
                output.WriteLine(Format.Shown($"{node.Span.Name}: {node.Span.Error}"));
            }
        }

        if (row is not null)
        {
            WritePhases(terminal, row);
        }
    }

    // A trial shorter than a millisecond has no spans of its own; its phases are columns always.
    private static void WritePhases(Terminal terminal, TrialRow row)
    {
        (string Name, double? Seconds)[] phases =
        [
            ("project", row.Real("project_seconds")), ("moments", row.Real("moments_seconds")),
            ("rows", row.Real("rows_seconds")), ("reduce", row.Real("reduce_seconds")),
        ];
        double whole = phases.Sum(p => p.Seconds ?? 0);
        if (whole <= 0)
        {
            return;
        }

        terminal.Out.WriteLine();
        TextTable table = new TextTable().Left("phase of a call").Right("lasts", "share").Left("waterfall");
        double before = 0;
        foreach ((string name, double? seconds) in phases)
        {
            if (seconds is double lasts)
            {
                table.Row(name, Format.Seconds(lasts), Format.Percent(lasts / whole), Bar(before / whole, lasts / whole, terminal));
                before += lasts;
            }
        }

        table.Write(terminal);
    }

    private static string Bar(double from, double share, Terminal terminal)
    {
        int offset = Math.Clamp((int)(from * BarWidth), 0, BarWidth - 1);
        int length = Math.Clamp((int)Math.Round(share * BarWidth), 1, BarWidth - offset);
        return new string(' ', offset) + new string(terminal.OutIsTerminal ? '█' : '#', length);
    }

    private static JsonObject ToJson(long sweep, long shard, long? trial, Guid traceId, TrialRow? row, List<Node> nodes) => new()
    {
        ["sweep_id"] = sweep,
        ["shard"] = shard,
        ["trial"] = trial,
        ["trace_id"] = traceId.ToString("N"),
        ["outcome"] = row?.ToJson(),
        ["spans"] = new JsonArray([.. nodes.Select(n => new JsonObject
        {
            ["span_id"] = Hex(n.Span.SpanId),
            ["parent_id"] = Hex(n.Span.ParentId),
            ["depth"] = n.Depth,
            ["name"] = n.Span.Name,
            ["kind"] = n.Span.Kind,
            ["started_at"] = JsonOutput.Time(n.Span.StartedAt),
            ["duration_seconds"] = n.Span.DurationSeconds,
            ["error"] = n.Span.Error,
            ["trial"] = n.Span.Trial,
            ["attributes"] = n.Span.Attributes is string json ? JsonNode.Parse(json) : null,
        })]),
    };

    private static string? Hex(ulong id) => id == 0 ? null : id.ToString("x16", CultureInfo.InvariantCulture);
}
