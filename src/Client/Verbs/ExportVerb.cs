using System.CommandLine;
using System.Text;
using Experiments.Client.Running;
using Experiments.Client.Terminals;
using Experiments.Results.Archives;
using Experiments.Results.Store;
using Experiments.Silo;

namespace Experiments.Client.Verbs;

/// <summary>A sweep's trials as CSV, JSON or Parquet, or all of the sweep as an archive: streamed, and whole or not at all.</summary>
internal static class ExportVerb
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> id = SweepOptions.SweepId();
        Option<string> format = new("--format") { HelpName = "csv|json|parquet", Description = "Default: by the ending of -o, else csv" };
        format.AcceptOnlyFromAmong("csv", "json", "parquet");
        Option<string> output = new("--output", "-o") { HelpName = "FILE", Description = "Where to; none: standard output (not for parquet)" };
        Option<string> archive = new("--archive")
        {
            HelpName = "FILE", Description = "Instead: all that is stored of the sweep, traces and files too, as a zip file for 'experiments import'",
        };
        Option<bool> without = new("--without-files") { Description = "With --archive: leave out the files that the sweep carries" };
        return new Verb("export", "Write a sweep's trials as CSV, JSON or Parquet, or all of it as an archive")
        {
            Examples =
            [
                ("experiments export last --format csv -o trials.csv", "the newest sweep as CSV"),
                ("experiments export 12 -o trials.parquet", "sweep 12 as Parquet, with typed columns"),
                ("experiments export 12 --format json | head", "to a pipe"),
                ("experiments export 12 --archive sweep-12.zip", "everything of sweep 12, to import into another store"),
            ],
            Arguments = { id },
            Options = { format, output, archive, without },
        }.Runs(terminal, async invocation =>
        {
            if (invocation.Value(archive) is string whole)
            {
                if (invocation.Value(format) is not null || invocation.Value(output) is not null)
                {
                    throw CommandException.Invalid("--archive has a format and a file of its own: leave --format and --output out.");
                }

                await ArchiveAsync(invocation, invocation.Value(id), whole, invocation.Value(without));
                return ExitCode.Done;
            }

            if (invocation.Value(without))
            {
                throw CommandException.Invalid("--without-files is for --archive FILE: trials alone never have the sweep's files with them.");
            }

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
                rows = await Answers.WriteWholeAsync(
                    terminal, output => WriteAsync(store, sweep, chosen, output, invocation.Cancellation));
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

    private static async Task ArchiveAsync(Invocation invocation, string id, string file, bool withoutFiles)
    {
        CancellationToken cancellation = invocation.Cancellation;
        AtomicFile.CheckPlace(file, "--archive");
        await using ResultStore store = await Stores.OpenReaderAsync(invocation);
        long sweep = await Stores.FindSweepAsync(store, id, cancellation);
        await using SweepFiles files = new(invocation);
        ArchiveManifest? manifest = null;
        long bytes = 0;
        await AtomicFile.WriteAsync(file, "--archive", async temporary =>
        {
            await using FileStream stream = new(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16);
            manifest = await store.ExportArchiveAsync(
                sweep, stream, NodeFacts.Build, async () => withoutFiles ? null : await files.OpenAsync("--without-files leaves them out"), cancellation)
                ?? throw CommandException.Invalid($"There is no sweep '{sweep}' any more: it was deleted just now.");
            bytes = stream.Length;
        });
        invocation.Terminal.Notice($"Sweep {sweep}, '{manifest!.Name}', {manifest.State}: {Format.Count(manifest.Stored)} of "
            + $"{Format.Count(manifest.Trials, "trial")} with all that belongs to them in {file}, {Format.Bytes(bytes)}"
            + (manifest.Files.Count == 0 ? "." : $"; {Format.Count(manifest.Files.Count, "file")} that it carries among it."));
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
