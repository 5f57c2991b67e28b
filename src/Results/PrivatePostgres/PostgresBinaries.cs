using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.RegularExpressions;
using Experiments.Results.Processes;
using Experiments.Results.Store;
using MysticMind.PostgresEmbed;

namespace Experiments.Results.PrivatePostgres;

/// <summary>A folder with postgres, initdb and pg_ctl of one version.</summary>
internal sealed partial record PostgresBinaries(string Folder, int Major, string Version)
{
    internal const int OldestMajor = 14;

    // The version that is fetched where none is installed, and none was used before.
    private const int FetchedMajor = 17;

    internal string InitDb => Program("initdb");

    internal string PgCtl => Program("pg_ctl");

    /// <summary>The first usable server found here, of one major version when the data was made by it.</summary>
    internal static async Task<PostgresBinaries?> FindAsync(int? major, string fetchedTo, CancellationToken cancellation)
    {
        if (Environment.GetEnvironmentVariable("EXPERIMENTS_POSTGRES_BIN") is { Length: > 0 } named)
        {
            return await NamedAsync(named, major, cancellation);
        }

        await foreach (string folder in CandidatesAsync(fetchedTo, cancellation))
        {
            if (await AtAsync(folder, cancellation) is PostgresBinaries found
                && found.Major >= OldestMajor && (major is null || found.Major == major))
            {
                return found;
            }
        }

        return null;
    }

    /// <summary>Every server found here, in the order in which they would be taken; where one folder is named, that one alone.</summary>
    internal static async Task<IReadOnlyList<PostgresBinaries>> AllAsync(string fetchedTo, CancellationToken cancellation)
    {
        List<PostgresBinaries> all = [];
        if (Environment.GetEnvironmentVariable("EXPERIMENTS_POSTGRES_BIN") is { Length: > 0 } named)
        {
            return [await NamedAsync(named, null, cancellation)];
        }

        await foreach (string folder in CandidatesAsync(fetchedTo, cancellation))
        {
            if (all.All(b => b.Folder != folder) && await AtAsync(folder, cancellation) is PostgresBinaries found)
            {
                all.Add(found);
            }
        }

        return all;
    }

    /// <summary>Downloads a server, once, after saying so.</summary>
    /// <param name="repository">Of Maven's layout; null is Maven Central, where the builds of zonkyio/embedded-postgres-binaries lie.</param>
    internal static async Task<PostgresBinaries> FetchAsync(
        int? major, string folder, Action<string> notice, CancellationToken cancellation, string? repository = null)
    {
        notice((major is null ? "No PostgreSQL server (14 or newer) was found here." : $"The data here was made by PostgreSQL {major}, which was not found.")
            + $" Fetching PostgreSQL {major ?? FetchedMajor} into {folder}, once (about 30 MB) …");
        try
        {
            Directory.CreateDirectory(folder);
            PgServer server = new(new PgServerOptions
            {
                PgVersion = (major ?? FetchedMajor).ToString(CultureInfo.InvariantCulture),
                BinariesDir = folder,
                DbDir = folder,
                MavenRepo = repository ?? PgServerOptions.DefaultMavenRepo,
            });
            await server.InstallAsync(cancellation);
            OpenToAll(folder);
            if (await AtAsync(Path.Combine(server.InstallDir, "bin"), cancellation) is PostgresBinaries found)
            {
                return found;
            }

            throw new StoreUnavailableException(Missing(major, $"what was fetched into {folder} does not run here"));
        }
        catch (Exception fault) when (fault is PostgresEmbedException or HttpRequestException or IOException
            or UnauthorizedAccessException or UnsupportedPlatformException or TimeoutException
            || (fault is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            throw new StoreUnavailableException(Missing(major, $"fetching one failed: {fault.Message.Split('\n')[0].Trim()}"), fault);
        }
    }

    private static async Task<PostgresBinaries> NamedAsync(string named, int? major, CancellationToken cancellation)
    {
        PostgresBinaries found = await AtAsync(named, cancellation) ?? throw new StoreUnavailableException(
            $"EXPERIMENTS_POSTGRES_BIN is {named}, where postgres, initdb and pg_ctl are not all found. "
            + "Name the folder that holds them, or unset it.");
        return found.Major == (major ?? found.Major) && found.Major >= OldestMajor ? found : throw new StoreUnavailableException(
            $"EXPERIMENTS_POSTGRES_BIN is {named}, which holds PostgreSQL {found.Major}; "
            + (major is null ? $"{OldestMajor} or newer is needed." : $"the data here was made by PostgreSQL {major}.")
            + " Name the folder of that one, or unset it.");
    }

    private static string Missing(int? major, string why)
    {
        string server = major is null ? "A PostgreSQL server (14 or newer)" : $"PostgreSQL {major}, which made the data here,";
        string debian = major is null ? "postgresql" : $"postgresql-{major}";
        return $"""
            {server} is needed; none was found, and {why.TrimEnd('.')}.
            Install one: `apt install {debian}` (Debian, Ubuntu), `dnf install postgresql-server` (Fedora),
            `brew install postgresql@{major ?? FetchedMajor}` (macOS), `winget install PostgreSQL.PostgreSQL.{major ?? FetchedMajor}` (Windows);
            or set EXPERIMENTS_POSTGRES_BIN to the folder of its programs, or EXPERIMENTS_POSTGRES to the connection
            string of a server you have.
            """;
    }

    private static async IAsyncEnumerable<string> CandidatesAsync(
        string fetchedTo, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
    {
        string suffix = OperatingSystem.IsWindows() ? ".exe" : "";
        string[] path = (Environment.GetEnvironmentVariable("PATH") ?? "")
            .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries);
        if (path.Select(p => Path.Combine(p, "pg_config" + suffix)).FirstOrDefault(File.Exists) is string pgConfig)
        {
            if (await SayAsync(pgConfig, "--bindir", cancellation) is string folder)
            {
                yield return folder.Trim();
            }
        }

        foreach (string postgres in path.Select(p => Path.Combine(p, "postgres" + suffix)).Where(File.Exists))
        {
            string real = File.ResolveLinkTarget(postgres, returnFinalTarget: true)?.FullName ?? postgres;
            yield return Path.GetDirectoryName(real)!;
        }

        (string Parent, string Pattern, string Bin)[] usual =
        [
            ("/usr/lib/postgresql", "*", "bin"),
            ("/usr", "pgsql-*", "bin"),
            ("/usr/libexec", "postgresql*", ""),
            ("/opt/homebrew/opt", "postgresql*", "bin"),
            ("/usr/local/opt", "postgresql*", "bin"),
            ("/home/linuxbrew/.linuxbrew/opt", "postgresql*", "bin"),
            ("/Applications/Postgres.app/Contents/Versions", "*", "bin"),
            (Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ProgramFiles), "PostgreSQL"), "*", "bin"),
        ];
        foreach ((string parent, string pattern, string bin) in usual)
        {
            foreach (string folder in NewestFirst(parent, pattern))
            {
                yield return Path.Combine(folder, bin);
            }
        }

        foreach (string folder in NewestFirst(fetchedTo, "*"))
        {
            yield return Path.Combine(folder, "bin");
            foreach (string inner in NewestFirst(folder, "*"))
            {
                yield return Path.Combine(inner, "bin");
            }
        }
    }

    private static IEnumerable<string> NewestFirst(string parent, string pattern) =>
        parent.Length > 0 && Directory.Exists(parent)
            ? Directory.EnumerateDirectories(parent, pattern).OrderByDescending(
                folder => double.TryParse(
                    Number().Match(Path.GetFileName(folder)).Value, NumberStyles.Float, CultureInfo.InvariantCulture, out double v) ? v : 0)
            : [];

    private static async Task<PostgresBinaries?> AtAsync(string folder, CancellationToken cancellation)
    {
        PostgresBinaries here = new(folder, 0, "");
        if (!File.Exists(here.Program("postgres")) || !File.Exists(here.InitDb) || !File.Exists(here.PgCtl))
        {
            return null;
        }

        Match version = VersionLine().Match(await SayAsync(here.Program("postgres"), "--version", cancellation) ?? "");
        return version.Success
            ? here with
            {
                Major = int.Parse(version.Groups[2].ValueSpan, CultureInfo.InvariantCulture),
                Version = version.Groups[1].Value,
            }
            : null;
    }

    /// <summary>What a program answers; null where it cannot run here, which makes it no candidate and no fault.</summary>
    private static async Task<string?> SayAsync(string program, string option, CancellationToken cancellation)
    {
        try
        {
            (int exitCode, string output) = await ServerProcess.RunAsync(program, [option], null, cancellation);
            return exitCode == 0 ? output : null;
        }
        catch (StoreUnavailableException)
        {
            return null;
        }
    }

    /// <summary>Root fetches, but an unprivileged user runs: everyone may read, and run what may be run.</summary>
    private static void OpenToAll(string folder)
    {
        if (!Unix.IsRoot)
        {
            return;
        }

        Open(folder);
        foreach (string path in Directory.EnumerateFileSystemEntries(folder, "*", SearchOption.AllDirectories))
        {
            Open(path);
        }
    }

    [SuppressMessage("Interoperability", "CA1416", Justification = "Only reached by root of a Unix.")]
    private static void Open(string path)
    {
        UnixFileMode mode = File.GetUnixFileMode(path);
        UnixFileMode added = UnixFileMode.GroupRead | UnixFileMode.OtherRead;
        if ((mode & UnixFileMode.UserExecute) != 0)
        {
            added |= UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;
        }

        File.SetUnixFileMode(path, mode | added);
    }

    private string Program(string name) => Path.Combine(Folder, OperatingSystem.IsWindows() ? name + ".exe" : name);

    [GeneratedRegex(@"(\d+)(\.\d+)?")]
    private static partial Regex Number();

    [GeneratedRegex(@"PostgreSQL\)? ((\d+)[.\w]*)")]
    private static partial Regex VersionLine();
}
