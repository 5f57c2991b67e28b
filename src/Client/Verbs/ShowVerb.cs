using System.CommandLine;
using Experiments.Client.Summaries;
using Experiments.Client.Terminals;
using Experiments.Results.Store;

namespace Experiments.Client.Verbs;

/// <summary>A sweep's facts and what it found so far.</summary>
internal static class ShowVerb
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        Option<bool> source = new("--source") { Description = "Print the sweep file as it was written, and nothing else" };
        Option<bool> all = new("--all") { Description = "Of a long sweep that runs or has just ended: read every stored trial, not a sample of its shards" };
        return new Verb("show", "Show a sweep's facts and what it found")
        {
            Examples =
            [
                ("experiments show last", "the newest sweep"),
                ("experiments show 12 --json", "sweep 12, for a program"),
                ("experiments show 12 --source > again.yaml", "the file it was made from"),
            ],
            Arguments = { id },
            Options = { source, all, GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            await using ResultStore store = await Stores.OpenReaderAsync(invocation);
            long sweep = await Stores.FindSweepAsync(store, invocation.Value(id), invocation.Cancellation);
            if (invocation.Value(source))
            {
                await terminal.Out.WriteAsync((await store.FindSweepAsync(sweep, invocation.Cancellation))?.Source);
                return ExitCode.Done;
            }

            await SummaryReport.WriteAsync(invocation, store, sweep, invocation.Value(all), invocation.Cancellation);
            return ExitCode.Done;
        });
    }
}
