using System.CommandLine;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Results.Store;

namespace Experiments.Client.Verbs;

/// <summary>The sweeps of the store, newest first.</summary>
internal static class ListVerb
{
    public static Command Create(Terminal terminal)
    {
        Option<string> state = new("--state") { HelpName = "running|done|cancelled", Description = "Only sweeps in this state" };
        state.AcceptOnlyFromAmong("running", "done", "cancelled");
        Option<int?> limit = SweepOptions.Integer("--limit", "N", "At most so many; default 50", 1);
        return new Verb("list", "List the sweeps of the store, newest first")
        {
            Examples =
            [
                ("experiments list", "the last 50 sweeps with their progress"),
                ("experiments list --state running --json", "those that are not finished, for a program"),
            ],
            Options = { state, limit, GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            await using ResultStore store = await Stores.OpenReaderAsync(invocation);
            SweepState? wanted = Enum.TryParse(invocation.Value(state), ignoreCase: true, out SweepState named) ? named : null;
            IReadOnlyList<SweepListing> rows = await store.ListSweepsAsync(
                before: null, invocation.Value(limit) ?? 50, wanted, invocation.Cancellation);
            if (invocation.Json)
            {
                JsonOutput.Write(terminal.Out, new JsonArray([.. rows.Select(r => SweepJson.Of(r))]));
                return ExitCode.Done;
            }

            if (rows.Count == 0)
            {
                terminal.Notice("There is no sweep yet. 'experiments run quickstart' makes one.");
                return ExitCode.Done;
            }

            TextTable table = new TextTable().Right("id").Left("name", "state").Right("trials", "done", "failed", "skipped")
                .Left("created");
            bool prioritised = rows.Any(r => r.Priority != 0);
            if (prioritised)
            {
                table.Right("priority");
            }

            foreach (SweepListing row in rows)
            {
                table.Row(
                [
                    Format.Value(row.Id), row.Name, SweepJson.Word(row.State), Format.Count(row.Trials), Format.Count(row.Done),
                    Format.Count(row.Failed), Format.Count(row.Skipped), Format.Time(row.CreatedAt),
                    .. prioritised ? [Format.Value(row.Priority)] : Array.Empty<string>(),
                ]);
            }

            table.Write(terminal);
            return ExitCode.Done;
        });
    }
}

internal static class SweepJson
{
    public static JsonObject Of(SweepListing sweep) => new()
    {
        ["sweep_id"] = sweep.Id,
        ["name"] = sweep.Name,
        ["state"] = Word(sweep.State),
        ["priority"] = sweep.Priority,
        ["trials"] = sweep.Trials,
        ["done"] = sweep.Done,
        ["failed"] = sweep.Failed,
        ["skipped"] = sweep.Skipped,
        ["shards"] = sweep.Shards,
        ["shards_done"] = sweep.ShardsDone,
        ["shards_leased"] = sweep.ShardsLeased,
        ["created_at"] = JsonOutput.Time(sweep.CreatedAt),
        ["finished_at"] = JsonOutput.Time(sweep.FinishedAt),
    };

    public static string Word(SweepState state) => state.ToString().ToLowerInvariant();
}
