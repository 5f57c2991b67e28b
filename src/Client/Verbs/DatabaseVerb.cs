using System.CommandLine;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Results.Migrations;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;
using Npgsql;

namespace Experiments.Client.Verbs;

/// <summary>The store itself: where it is, and starting, stopping, migrating and emptying it.</summary>
internal static class DatabaseVerb
{
    public static Command Create(Terminal terminal)
    {
        Verb database = new Verb("database", "Say where the store is; start, stop, migrate or empty it")
        {
            Examples =
            [
                ("experiments database", "where the store is, and the psql line to reach it"),
                ("experiments database stop", "stop the private server"),
                ("experiments database reset --yes", "delete every sweep"),
            ],
            Options = { GlobalOptions.Json },
        }.Runs(terminal, StatusAsync);
        database.Add(new Verb("status", "Say where the store is and how to reach it with psql")
        {
            Examples = [("experiments database status --json", "the same for a program")],
            Options = { GlobalOptions.Json },
        }.Runs(terminal, StatusAsync));
        database.Add(new Verb("start", "Start the private server, or reach the one that is named, and migrate it")
        {
            Examples = [("experiments database start", "ready for psql or for the next command")],
            Options = { GlobalOptions.Json },
        }.Runs(terminal, StartAsync));
        database.Add(new Verb("stop", "Stop the private server; what is stored stays")
        {
            Examples = [("experiments database stop", "the next command starts it again")],
            Options = { GlobalOptions.Json },
        }.Runs(terminal, StopAsync));
        database.Add(new Verb("migrate", "Bring the store to this build's schema")
        {
            Examples = [("experiments database migrate", "every other verb does this too; alone it only does this")],
            Options = { GlobalOptions.Json },
        }.Runs(terminal, StartAsync));
        Option<bool> yes = new("--yes") { Description = "Really delete everything" };
        database.Add(new Verb("reset", "Delete every sweep, outcome and trace")
        {
            Examples = [("experiments database reset --yes", "an empty store of the present schema")],
            Options = { yes },
        }.Runs(terminal, invocation => ResetAsync(invocation, invocation.Value(yes))));
        database.Add(Keeper(terminal));
        return database;
    }

    private static async Task<ExitCode> StatusAsync(Invocation invocation)
    {
        if (invocation.Settings.Postgres.Value is not null)
        {
            return await StartAsync(invocation);
        }

        PrivateServerStatus status = await StoreLocator.Private().StatusAsync(invocation.Cancellation);
        if (invocation.Json)
        {
            JsonOutput.Write(invocation.Terminal.Out, new JsonObject
            {
                ["private"] = true,
                ["running"] = status.Running,
                ["process_id"] = status.ProcessId,
                ["version"] = status.Version,
                ["folder"] = status.Folder,
                ["size_bytes"] = status.SizeBytes,
                ["psql"] = status.PsqlLine,
            });
            return ExitCode.Done;
        }

        TextWriter output = invocation.Terminal.Out;
        output.WriteLine(status.Running
            ? $"A private PostgreSQL {status.Version} runs as process {status.ProcessId}"
                + (status.SizeBytes is long size ? $"; the store takes {Format.Bytes(size)}." : ".")
            : "The private PostgreSQL is not running; the next command that needs it starts it.");
        output.WriteLine($"folder  {status.Folder}");
        output.WriteLine($"psql    {status.PsqlLine}");
        return ExitCode.Done;
    }

    private static async Task<ExitCode> StartAsync(Invocation invocation)
    {
        StoreAddress address = await Stores.LocateAsync(invocation, invocation.Cancellation);
        if (address.IsPrivate)
        {
            return await StatusAsync(invocation);
        }

        NpgsqlConnectionStringBuilder owner = new(address.Owner);
        await using ResultStore store = await ResultStore.OpenReaderAsync(address, invocation.Cancellation);
        string psql = $"psql -h {owner.Host} -p {owner.Port} -U {owner.Username} {owner.Database}";
        if (invocation.Json)
        {
            JsonOutput.Write(invocation.Terminal.Out, new JsonObject
            {
                ["private"] = false,
                ["running"] = true,
                ["version"] = store.ServerVersion,
                ["host"] = owner.Host,
                ["port"] = owner.Port,
                ["database"] = owner.Database,
                ["source"] = invocation.Settings.Postgres.Source,
                ["psql"] = psql,
            });
            return ExitCode.Done;
        }

        TextWriter output = invocation.Terminal.Out;
        output.WriteLine($"PostgreSQL {store.ServerVersion} on {owner.Host}, database {owner.Database}, as "
            + $"{invocation.Settings.Postgres.Source} says; its schema is this build's.");
        output.WriteLine($"psql    {psql}");
        return ExitCode.Done;
    }

    private static async Task<ExitCode> StopAsync(Invocation invocation)
    {
        bool stopped = await StoreLocator.Private().StopAsync(invocation.Cancellation);
        if (invocation.Json)
        {
            JsonOutput.Write(invocation.Terminal.Out, new JsonObject { ["stopped"] = stopped });
        }
        else
        {
            invocation.Terminal.Out.WriteLine(stopped ? "The private PostgreSQL is stopped." : "The private PostgreSQL was not running.");
        }

        return ExitCode.Done;
    }

    private static async Task<ExitCode> ResetAsync(Invocation invocation, bool yes)
    {
        if (!yes)
        {
            throw CommandException.Invalid("'experiments database reset' deletes every sweep, outcome and trace. Add --yes to do it.");
        }

        StoreAddress address = await Stores.LocateAsync(invocation, invocation.Cancellation);
        await Migrator.ResetAsync(address, invocation.Cancellation);
        await Stores.LocateAsync(invocation, invocation.Cancellation);
        invocation.Terminal.Out.WriteLine("The store is empty.");
        return ExitCode.Done;
    }

    // Started by the private server itself, in the background: it stops the server when nobody has used it for a while.
    private static Verb Keeper(Terminal terminal)
    {
        Argument<string> folder = new("folder") { Description = "The private server's folder" };
        return new Verb("keeper", "Stop the private server when it is idle")
        {
            Hidden = true,
            Arguments = { folder },
        }.Runs(terminal, async invocation =>
        {
            await PostgresKeeper.RunAsync(
                invocation.Value(folder), PostgresKeeper.IdleFromEnvironment(), invocation.Cancellation);
            return ExitCode.Done;
        });
    }
}
