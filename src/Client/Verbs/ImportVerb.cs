using System.CommandLine;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Results.Archives;
using Experiments.Results.Store;

namespace Experiments.Client.Verbs;

/// <summary>A sweep from an archive of another store: all of it or nothing.</summary>
internal static class ImportVerb
{
    public static Command Create(Terminal terminal)
    {
        Argument<string> file = new("file")
        {
            HelpName = "FILE", Description = "What 'experiments export ID --archive FILE' wrote",
        };
        Option<bool> again = new("--again") { Description = "Also where the sweep is there already: beside it, under a number of its own" };
        return new Verb("import", "Bring a sweep from another store's archive into this one, with its traces and files")
        {
            Examples =
            [
                ("experiments import sweep-12.zip", "a colleague's sweep, to show, query, trace and resume here"),
                ("experiments import sweep-12.zip --postgres \"Host=db.example.org;Database=experiments\"", "a sweep of the private store into the cluster's"),
                ("experiments import sweep-12.zip --again", "a second copy of it"),
            ],
            Arguments = { file },
            Options = { again, GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            // The whole file is checked before a server is looked for, or started.
            using SweepArchive archive = await OpenAsync(invocation.Value(file), invocation.Cancellation);
            StoreAddress address = await Stores.LocateAsync(invocation, invocation.Cancellation);
            await using ResultStore store = await ResultStore.OpenAsync(address, invocation.Cancellation);
            ImportedSweep imported = await store.ImportArchiveAsync(archive, invocation.Value(again), invocation.Cancellation);
            await store.KeepSummaryAsync(imported.Id, CancellationToken.None);
            Write(invocation, archive.Manifest, imported);
            return ExitCode.Done;
        });
    }

    private static async Task<SweepArchive> OpenAsync(string path, CancellationToken cancellation)
    {
        if (!File.Exists(path))
        {
            throw CommandException.Invalid(Directory.Exists(path)
                ? $"'{path}' is a folder; the file that 'experiments export ID --archive FILE' wrote is needed."
                : $"There is no file '{path}'. 'experiments export ID --archive FILE' writes one.");
        }

        // Opening a pipe waits for whoever writes into it, and an archive is read from its end.
        if (new FileInfo(File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path).Length == 0)
        {
            throw CommandException.Invalid(
                $"'{path}' is empty, or a pipe or device; the file that 'experiments export ID --archive FILE' wrote is needed.");
        }

        return await SweepArchive.OpenAsync(
            new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16, useAsync: false), path, cancellation);
    }

    private static void Write(Invocation invocation, ArchiveManifest manifest, ImportedSweep imported)
    {
        TextWriter output = invocation.Terminal.Out;
        if (invocation.Json)
        {
            JsonOutput.Write(output, new JsonObject
            {
                ["sweep_id"] = imported.Id,
                ["name"] = imported.Name,
                ["state"] = SweepJson.Word(imported.State),
                ["trials"] = imported.Trials,
                ["stored"] = imported.Stored,
                ["archived_sweep_id"] = manifest.SweepId,
                ["archived_state"] = SweepJson.Word(imported.Archived),
                ["archived_at"] = JsonOutput.Time(manifest.TakenAt),
                ["build"] = manifest.Build,
                ["files"] = manifest.Files.Count,
            });
            return;
        }

        string files = manifest.Files.Count == 0 ? "" : $", with {Format.Count(manifest.Files.Count, "file")}";
        output.WriteLine($"Sweep {imported.Id}, '{Format.Shown(imported.Name)}': {Format.Count(imported.Stored)} of {Format.Count(imported.Trials, "trial")} imported{files}; "
            + $"it was sweep {manifest.SweepId} of its store.");
        if (imported.State == SweepState.Done)
        {
            output.WriteLine($"What it found: experiments show {imported.Id}");
            return;
        }

        if (imported.Archived == SweepState.Running)
        {
            output.WriteLine("It ran when it was archived. Here it is cancelled, so that nobody starts it by surprise.");
        }

        output.WriteLine($"It goes on with: experiments resume {imported.Id}");
    }
}
