using System.CommandLine;
using System.Net.Sockets;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Results.Migrations;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;
using Experiments.Silo.Configuration;
using Npgsql;

namespace Experiments.Client.Verbs;

/// <summary>What a run needs, what of it is here, and how to get the rest. It starts no server.</summary>
internal static class DoctorVerb
{
    public static Command Create(Terminal terminal) =>
        new Verb("doctor", "Check what a run needs, and say how to get what is missing")
        {
            Examples =
            [
                ("experiments doctor", "each part: ok or missing, and what to do"),
                ("experiments doctor --json", "the same for a program"),
            ],
            Options = { GlobalOptions.Json },
        }.Runs(terminal, async invocation =>
        {
            List<Check> checks =
            [
                new("runtime", true, $"{RuntimeInformation.FrameworkDescription} on {RuntimeInformation.OSDescription}"),
                Processor(),
                Memory(),
                .. await StoreAsync(invocation),
                await OtlpAsync(invocation),
                SettingsFile(invocation.Settings),
                Presets(),
            ];
            if (invocation.Json)
            {
                JsonOutput.Write(terminal.Out, new JsonArray([.. checks.Select(c => new JsonObject
                {
                    ["check"] = c.Name, ["ok"] = c.Ok, ["found"] = c.Found, ["do"] = c.Do,
                })]));
            }
            else
            {
                TextTable table = new TextTable().Left("check", "state", "found");
                foreach (Check check in checks)
                {
                    table.Row(check.Name, check.Ok ? "ok" : "missing", check.Found);
                }

                table.Write(terminal);
                foreach (Check check in checks.Where(c => c.Do is not null))
                {
                    terminal.Out.WriteLine();
                    terminal.Out.WriteLine($"{check.Name}: {check.Do}");
                }
            }

            return checks.All(c => c.Ok) ? ExitCode.Done
                : checks.Any(c => !c.Ok && c.IsStore) ? ExitCode.StoreUnreachable
                : ExitCode.Invalid;
        });

    /// <param name="Do">What to do about it, when it is not ok.</param>
    private sealed record Check(string Name, bool Ok, string Found, string? Do = null, bool IsStore = false);

    private static Check Processor() => new("processor", true,
        $"{Environment.ProcessorCount} cores, {RuntimeInformation.ProcessArchitecture}, vectors of {Vector<byte>.Count * 8} bits"
        + (Vector512.IsHardwareAccelerated ? " (512 with AVX-512)" : ""));

    private static Check Memory()
    {
        GCMemoryInfo info = GC.GetGCMemoryInfo();
        return new Check("memory", true,
            $"{Format.Bytes(info.TotalAvailableMemoryBytes)} for this process, {Format.Bytes(Math.Max(0, info.TotalAvailableMemoryBytes - info.MemoryLoadBytes))} free");
    }

    private static async Task<IEnumerable<Check>> StoreAsync(Invocation invocation)
    {
        if (invocation.Settings.Postgres is { Value: string named } setting)
        {
            return [await NamedAsync(named, setting.Source, invocation)];
        }

        List<Check> checks = [];
        try
        {
            PrivateServer server = StoreLocator.Private();
            checks.Add(Writable(server.Folder));
            checks.Add(await ProgramsAsync(server, invocation.Cancellation));
            PrivateServerStatus status = await server.StatusAsync(invocation.Cancellation);
            checks.Add(new Check("private server", true, status.Running
                ? $"PostgreSQL {status.Version} runs as process {status.ProcessId}, {Format.Bytes(status.SizeBytes ?? 0)} stored"
                : "not running; the next command that needs it starts it"));
        }
        catch (StoreUnavailableException fault)
        {
            checks.Add(new Check("private server", false, "cannot be used", fault.Message, IsStore: true));
        }

        return checks;
    }

    private static async Task<Check> ProgramsAsync(PrivateServer server, CancellationToken cancellation)
    {
        try
        {
            IReadOnlyList<PostgresProgram> found = await server.ProgramsAsync(cancellation);
            return new Check("postgres programs", true, found.Count > 0
                ? string.Join("; ", found.Select(p => $"PostgreSQL {p.Version} in {p.Folder}" + (p.IsUsable ? "" : " (too old)")))
                : "none found; PostgreSQL is fetched once when a server is needed");
        }
        catch (StoreUnavailableException fault)
        {
            return new Check("postgres programs", false, "cannot be used", fault.Message, IsStore: true);
        }
    }

    private static async Task<Check> NamedAsync(string named, string source, Invocation invocation)
    {
        try
        {
            NpgsqlConnectionStringBuilder builder = ConnectionText.Read(named, source);
            (builder.Pooling, builder.Timeout) = (false, 5);
            await using NpgsqlConnection connection = new(builder.ConnectionString);
            await connection.OpenAsync(invocation.Cancellation);
            return connection.PostgreSqlVersion.Major >= 14
                ? new Check("postgres", true, $"PostgreSQL {connection.PostgreSqlVersion} on {builder.Host} ({source}); "
                    + $"schema {Migrator.Scripts[^1]} is this build's newest")
                : new Check("postgres", false, $"PostgreSQL {connection.PostgreSqlVersion} on {builder.Host} ({source})",
                    "14 or newer is needed.", IsStore: true);
        }
        catch (Exception fault) when (fault is NpgsqlException or SocketException or TimeoutException)
        {
            return new Check("postgres", false, $"{source} names a server that cannot be reached",
                ErrorBoundary.Redact($"{fault.Message.Split('\n')[0].Trim().TrimEnd('.')}. Check {source}, or unset it: a private server is then started."),
                IsStore: true);
        }
        catch (ArgumentException fault)
        {
            return new Check("postgres", false, $"{source} is not what it should be", fault.Message);
        }
    }

    private static Check Writable(string folder)
    {
        // The nearest folder that exists is where the rest would be made.
        string existing = folder;
        while (!Directory.Exists(existing) && Path.GetDirectoryName(existing) is string above)
        {
            existing = above;
        }

        string probe = Path.Combine(existing, $".experiments-doctor-{Environment.ProcessId}");
        try
        {
            File.WriteAllText(probe, "");
            File.Delete(probe);
            DriveInfo drive = new(existing);
            return new Check("data folder", true, $"{folder}, {Format.Bytes(drive.AvailableFreeSpace)} free");
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            // The server's own user owns its folder when root runs this; a running server shows that it can write.
            return new Check("data folder", false, $"{folder} cannot be written: {fault.Message}",
                "Set XDG_DATA_HOME to a folder of your own, or EXPERIMENTS_POSTGRES to a server.", IsStore: true);
        }
    }

    private static async Task<Check> OtlpAsync(Invocation invocation)
    {
        if (invocation.Settings.OtlpEndpoint is not { Value: string endpoint } setting)
        {
            return new Check("otlp", true, "no endpoint set; traces go to the store only");
        }

        string shown = ErrorBoundary.Redact(endpoint);
        if (!Uri.TryCreate(endpoint, UriKind.Absolute, out Uri? uri))
        {
            return new Check("otlp", false, $"'{shown}' is not an address", $"{setting.Source} should look like http://localhost:4317.");
        }

        try
        {
            using TcpClient client = new();
            using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(invocation.Cancellation);
            limit.CancelAfter(TimeSpan.FromSeconds(3));
            await client.ConnectAsync(uri.Host, uri.Port, limit.Token);
            return new Check("otlp", true, $"{shown} answers");
        }
        catch (Exception fault) when (fault is SocketException or OperationCanceledException)
        {
            invocation.Cancellation.ThrowIfCancellationRequested();
            return new Check("otlp", false, $"{shown} does not answer",
                $"Start a collector there, or unset {setting.Source}; runs go on without it.");
        }
    }

    private static Check SettingsFile(Settings settings)
    {
        try
        {
            settings.Check();
        }
        catch (CommandException fault)
        {
            return new Check("settings", false, fault.Message, "Mend it there, or take it out: each setting has a default.");
        }

        return new Check("settings", true, File.Exists(settings.File)
            ? settings.File
            : $"{settings.File} does not exist; defaults and the environment hold");
    }

    private static Check Presets() => SweepSource.Presets.Count > 0
        ? new Check("presets", true, string.Join(", ", SweepSource.Presets))
        : new Check("presets", false, "none beside the program", $"Reinstall: {SweepSource.PresetFolder} should hold them.");
}
