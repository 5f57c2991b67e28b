using System.CommandLine;
using Experiments.Client.Terminals;
using Experiments.Results.Store;

namespace Experiments.Client.Verbs;

/// <summary>SQL of the user's own, as the role that can write nothing.</summary>
internal static class QueryVerb
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> sql = new("sql") { HelpName = "SQL", Description = "What to ask; '-' reads it from standard input" };
        Option<bool> csv = new("--csv") { Description = "Print the result as CSV" };
        return new Verb("query", "Ask the store in SQL; it can write nothing")
        {
            Examples =
            [
                ("experiments query \"select kernel, count(*) from trials group by kernel\"", "trials by kernel"),
                ("experiments query \"select * from error_by_degree where sweep_id = 12\" --csv > errors.csv", "a view as CSV"),
                ("experiments query \"select name, avg(duration_seconds) from spans group by name\" --json", "where time goes"),
            ],
            Arguments = { sql },
            Options = { csv, GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            if (invocation.Json && invocation.Value(csv))
            {
                throw CommandException.Invalid("--json and --csv are two forms of one result; give one of them.");
            }

            string text = invocation.Value(sql);
            text = text == "-" ? await Console.In.ReadToEndAsync(invocation.Cancellation) : text;
            if (string.IsNullOrWhiteSpace(text))
            {
                throw CommandException.Invalid("The SQL is empty. Try: experiments query \"select * from sweep_progress\"");
            }

            StoreAddress address = await Stores.LocateAsync(invocation, invocation.Cancellation);
            await using ResultRows rows = await ReaderQuery.RunAsync(address, text, timeout: null, invocation.Cancellation);
            if (rows.Columns.Count > 0)
            {
                await WriteAsync(rows, invocation.Json, invocation.Value(csv), terminal, invocation.Cancellation);
            }

            return ExitCode.Done;
        });
    }

    private static async Task WriteAsync(
        ResultRows rows, bool json, bool csv, Terminal terminal, CancellationToken cancellation)
    {
        long count = await Answers.WriteWholeAsync(terminal, output => json ? Answers.WriteJsonAsync(rows, output, cancellation)
            : csv ? Answers.WriteCsvAsync(rows, output, cancellation)
            : Answers.WriteTableAsync(rows, output, cancellation));
        if (!json && !csv && terminal.OutIsTerminal)
        {
            await terminal.Out.WriteLineAsync($"({Format.Count(count)} row{(count == 1 ? "" : "s")})");
        }
    }
}
