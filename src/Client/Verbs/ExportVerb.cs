using System.CommandLine;
using System.Text;
using Experiments.Client.Terminals;
using Experiments.Results.Store;

namespace Experiments.Client.Verbs;

/// <summary>A sweep's trials as CSV, JSON or Parquet: streamed, and whole or not at all.</summary>
internal static class ExportVerb
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        Option<string> format = new("--format") { HelpName = "csv|json|parquet", Description = "Default: by the ending of -o, else csv" };
        format.AcceptOnlyFromAmong("csv", "json", "parquet");
        Option<string> output = new("--output", "-o") { HelpName = "FILE", Description = "Where to; none: standard output (not for parquet)" };
        return new Verb("export", "Write a sweep's trials as CSV, JSON or Parquet")
        {
            Examples =
            [
                ("experiments export last --format csv -o trials.csv", "the newest sweep as CSV"),
                ("experiments export 12 -o trials.parquet", "sweep 12 as Parquet, with typed columns"),
                ("experiments export 12 --format json | head", "to a pipe"),
            ],
            Arguments = { id },
            Options = { format, output },
        }.Runs(terminal, async invocation =>
        {
            string? file = invocation.Value(output);
            string chosen = invocation.Value(format) ?? Path.GetExtension(file)?.ToLowerInvariant() switch
            {
                ".json" => "json",
                ".parquet" => "parquet",
                _ => "csv",
            };
            if (file is null && chosen == "parquet")
            {
                throw CommandException.Invalid("Parquet is not for a pipe: its index comes last. Name a file: -o trials.parquet");
            }

            if (file is not null)
            {
                AtomicFile.CheckPlace(file, "--output");
            }

            await using ResultStore store = await Stores.OpenReaderAsync(invocation);
            long sweep = await Stores.FindSweepAsync(store, invocation.Value(id), invocation.Cancellation);

            long rows = 0;
            if (file is null)
            {
                rows = await WriteAsync(store, sweep, chosen, terminal.Out, invocation.Cancellation);
            }
            else
            {
                await AtomicFile.WriteAsync(file, "--output", async temporary =>
                {
                    await using FileStream stream = new(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16);
                    if (chosen == "parquet")
                    {
                        rows = await WriteParquetAsync(store, sweep, stream, invocation.Cancellation);
                        return;
                    }

                    await using StreamWriter writer = new(stream, new UTF8Encoding(false), 1 << 16);
                    rows = await WriteAsync(store, sweep, chosen, writer, invocation.Cancellation);
                });
                terminal.Notice($"{Format.Count(rows, "trial")} of sweep {sweep} in {file}.");
            }

            return ExitCode.Done;
        });
    }

    private static async Task<long> WriteAsync(
        ResultStore store, long sweep, string format, TextWriter writer, CancellationToken cancellation)
    {
        await using ResultRows rows = await store.ExportTrialsAsync(sweep, cancellation);
        return format == "json"
            ? await Answers.WriteJsonAsync(rows, writer, cancellation)
            : await Answers.WriteCsvAsync(rows, writer, cancellation);
    }

    private static async Task<long> WriteParquetAsync(
        ResultStore store, long sweep, Stream stream, CancellationToken cancellation)
    {
        await using ResultRows rows = await store.ExportTrialsAsync(sweep, cancellation);
        return await ParquetExport.WriteAsync(rows, stream, cancellation);
    }
}
