using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Experiments.Results.Processes;
using Experiments.Results.Store;
using Npgsql;

namespace Experiments.Results.PrivatePostgres;

/// <summary>A Postgres server of this user alone: on a Unix socket that nobody else can open, shared by the commands that
/// run at once, left running for the next one.</summary>
/// <remarks>Everything that starts or stops it holds <c>start.lock</c> in its folder. The data is made under another name and
/// renamed, so a kill during initdb leaves nothing half-made; what a kill of the server leaves, Postgres recovers.</remarks>
public sealed class PrivateServer
{
    /// <summary>The bootstrap superuser, the owner of everything here.</summary>
    public const string OwnerName = "experiments";

    public const string DatabaseName = "experiments";

    // An empty database takes 40 MiB, 16 of them a segment of write-ahead log; the next segment has to fit too.
    private const long LeastToBegin = 64L << 20;

    private const int LongestSocketFolder = 85; // 107 bytes hold a socket's path, and Postgres adds /.s.PGSQL.5432.lock.

    // A crashed server may have a checkpoint interval of log to replay, and a joiner waits for that.
    private static readonly TimeSpan LongestStart = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    // By the folders of their sockets, which is what a connection string holds of them.
    private static readonly ConcurrentDictionary<string, string> Started = new(StringComparer.Ordinal);

    private readonly PrivateServerOptions _options;
    private readonly UnixUser? _user;

    public PrivateServer(PrivateServerOptions options)
    {
        _options = options with { Folder = Path.GetFullPath(options.Folder) };
        _user = ServerUser(DataFolder);
        SocketFolder = ShortEnough(Path.Combine(Folder, "socket")) ? Path.Combine(Folder, "socket") : ShortFolder();
    }

    public string Folder => _options.Folder;

    public string SocketFolder { get; }

    internal string StartLockPath => Path.Combine(Folder, "start.lock");

    internal string KeeperLockPath => Path.Combine(Folder, "keeper.lock");

    /// <summary>Touched by every command that joins, so that the keeper never stops a server that was just handed out.</summary>
    internal string UsedPath => Path.Combine(Folder, "used");

    private string DataFolder => Path.Combine(Folder, "data");

    private string LogPath => Path.Combine(Folder, "server.log");

    private string BinariesFolder => Path.Combine(Path.GetDirectoryName(Folder) ?? Folder, "postgres-binaries");

    private string SocketPath => Path.Combine(SocketFolder, ".s.PGSQL.5432");

    public string PsqlLine => $"psql -h {SocketFolder} -U {OwnerName} {DatabaseName}";

    /// <summary>The private server's folder of this user: in the user's data folder, or, for root, one that the unprivileged
    /// user who runs the server can reach.</summary>
    public static string DefaultFolder()
    {
        string data = Environment.GetFolderPath(
            Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify);
        string folder = Path.Combine(data, "experiments", "postgres");
        bool usable = data.Length > 0
            && (!Unix.IsRoot || (ServerUser(Path.Combine(folder, "data")) is UnixUser user && Unix.CanReach(user, folder)));
        if (usable)
        {
            return folder;
        }

        return Unix.IsRoot ? "/var/lib/experiments/postgres" : throw new StoreUnavailableException(
            "The private database needs a folder, and neither HOME nor XDG_DATA_HOME is set. Set one, or set "
            + "EXPERIMENTS_POSTGRES to the connection string of a server.");
    }

    /// <summary>An Npgsql connection string of one role on this server. No password: who may open the socket may log in.</summary>
    public string ConnectionString(string role, string database) => new NpgsqlConnectionStringBuilder
    {
        Host = SocketFolder,
        Port = 5432,
        Username = role,
        Database = database,
        SslMode = SslMode.Disable,
        GssEncryptionMode = GssEncryptionMode.Disable,
    }.ConnectionString;

    /// <summary>Starts the server or joins it; on return it answers, and its database exists.</summary>
    /// <returns>The owner's connection string.</returns>
    public async Task<string> EnsureRunningAsync(Action<string> notice, CancellationToken cancellation)
    {
        try
        {
            PrepareFolder();
            using FileLock start = await FileLock.AcquireAsync(StartLockPath, cancellation);
            await File.WriteAllTextAsync(UsedPath, "", cancellation);
            GiveToServersUser(StartLockPath);
            GiveToServersUser(UsedPath);
            if (!await AnswersAsync(cancellation))
            {
                await StartAsync(notice, cancellation);
            }

            EnsureKeeper();
            Started[SocketFolder] = Folder;
            return ConnectionString(OwnerName, DatabaseName);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw Unusable(fault.Message, fault);
        }
    }

    /// <summary>Stops the server after its running statements are broken off; its keeper ends with it. False when none ran.</summary>
    public async Task<bool> StopAsync(CancellationToken cancellation)
    {
        if (!Directory.Exists(DataFolder))
        {
            return false;
        }

        using FileLock start = await FileLock.AcquireAsync(StartLockPath, cancellation);
        return await StopWithKeeperAsync(cancellation);
    }

    /// <summary>Stops the server if nobody is connected to it. False when none ran, or somebody is.</summary>
    public async Task<bool> StopUnusedAsync(CancellationToken cancellation)
    {
        if (!Directory.Exists(DataFolder))
        {
            return false;
        }

        // Nobody joins while we hold it.
        using FileLock start = await FileLock.AcquireAsync(StartLockPath, cancellation);
        if (RunningProcess() is null || !File.Exists(SocketPath))
        {
            return false;
        }

        await using (NpgsqlConnection connection = Unpooled("postgres"))
        {
            await connection.OpenAsync(cancellation);
            if ((await PostgresKeeper.LookAsync(this, connection, cancellation)).Clients > 0)
            {
                return false;
            }
        }

        return await StopWithKeeperAsync(cancellation);
    }

    public async Task<PrivateServerStatus> StatusAsync(CancellationToken cancellation)
    {
        int? processId;
        try
        {
            processId = RunningProcess();
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw Unusable(fault.Message, fault);
        }

        if (processId is null || !File.Exists(SocketPath))
        {
            return new PrivateServerStatus(false, null, Folder, PsqlLine, null, null);
        }

        await using NpgsqlConnection connection = Unpooled(DatabaseName);
        await connection.OpenAsync(cancellation);
        await using NpgsqlCommand command = new("SELECT pg_database_size(current_database())", connection);
        long size = (long)(await command.ExecuteScalarAsync(cancellation))!;
        return new PrivateServerStatus(true, processId, Folder, PsqlLine, size, connection.PostgreSqlVersion.ToString());
    }

    /// <summary>Every PostgreSQL server that is installed here, in the order in which they would be taken.</summary>
    /// <exception cref="StoreUnavailableException">EXPERIMENTS_POSTGRES_BIN names a folder that holds no usable server.</exception>
    public async Task<IReadOnlyList<PostgresProgram>> ProgramsAsync(CancellationToken cancellation) =>
        [.. (await PostgresBinaries.AllAsync(BinariesFolder, cancellation))
            .Select(b => new PostgresProgram(b.Folder, b.Version, b.Major >= PostgresBinaries.OldestMajor))];

    private async Task<bool> StopWithKeeperAsync(CancellationToken cancellation)
    {
        bool stopped = await StopLockedAsync(cancellation);
        while (stopped && File.Exists(KeeperLockPath))
        {
            // The keeper notices within a moment, since its connection breaks.
            using FileLock? keeper = FileLock.TryAcquire(KeeperLockPath);
            if (keeper is not null)
            {
                break;
            }

            await Task.Delay(Pause, cancellation);
        }

        return stopped;
    }

    internal async Task<bool> StopLockedAsync(CancellationToken cancellation)
    {
        if (RunningProcess() is not int processId)
        {
            return false;
        }

        PostgresBinaries binaries = await BinariesAsync(_ => { }, cancellation);
        (int exitCode, string output) = await ServerProcess.RunAsync(
            binaries.PgCtl, ["stop", "-D", DataFolder, "-m", "fast", "-w", "-t", "60"], _user, cancellation);
        return exitCode == 0 || RunningProcess() is null ? true : throw new StoreUnavailableException(
            $"The private database (process {processId}) did not stop: {output.Trim()}");
    }

    /// <summary>The folder of the private server behind a connection string's host, when this process started or joined it.</summary>
    internal static string? FolderOf(string? host) => host is not null && Started.TryGetValue(host, out string? folder) ? folder : null;

    internal NpgsqlConnection Unpooled(string database, string application = "experiments") => new(new NpgsqlConnectionStringBuilder(
        ConnectionString(OwnerName, database))
    { Pooling = false, Timeout = 5, ApplicationName = application }.ConnectionString);

    private StoreUnavailableException Unusable(string why, Exception? fault = null) => new(
        $"The private database's folder {Folder} cannot be used: {why.TrimEnd('.')}. Set XDG_DATA_HOME to a folder of "
        + "your own, or EXPERIMENTS_POSTGRES to the connection string of a server.", fault!);

    private string PidPath => Path.Combine(DataFolder, "postmaster.pid");

    /// <summary>The process that postmaster.pid names, while it lives and is this folder's Postgres.</summary>
    private int? RunningProcess() => FirstNumber(PidPath) is int id && IsPostgres(id) && ServesUs(id) ? id : null;

    /// <summary>Whether a Postgres is the one that wrote our postmaster.pid. After a reboot, or when a container starts again,
    /// its number may well be that of another server.</summary>
    private bool ServesUs(int processId)
    {
        // A server stands in its data folder.
        string seen = $"/proc/{processId}/cwd/postmaster.pid";
        if (!OperatingSystem.IsLinux())
        {
            return true;
        }

        try
        {
            // Its number, its folder and when it started; the lines below those change while it starts.
            return File.ReadLines(seen).Take(3).SequenceEqual(File.ReadLines(PidPath).Take(3), StringComparer.Ordinal);
        }
        catch (UnauthorizedAccessException)
        {
            // Another user's, unless we are a root who may not look, as in a container: then the name has to do.
            return Unix.IsRoot;
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException)
        {
            return false;
        }
    }

    private static int? FirstNumber(string path)
    {
        try
        {
            return int.TryParse(File.ReadLines(path).FirstOrDefault(), NumberStyles.None, CultureInfo.InvariantCulture, out int id) ? id : null;
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    private static bool IsPostgres(int processId)
    {
        if (!OperatingSystem.IsWindows() && (!Unix.IsAlive(processId) || IsZombie(processId)))
        {
            return false;
        }

        try
        {
            // After a reboot the number may be another program's.
            using System.Diagnostics.Process process = System.Diagnostics.Process.GetProcessById(processId);
            return process.ProcessName.StartsWith("post", StringComparison.OrdinalIgnoreCase);
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    /// <summary>A container's first process often reaps nobody, so a killed server may keep its number for good.</summary>
    private static bool IsZombie(int processId)
    {
        try
        {
            string status = File.ReadAllText($"/proc/{processId}/stat");
            return status.AsSpan(status.LastIndexOf(')') + 1).TrimStart().StartsWith("Z");
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            return false; // There is no /proc here, or the process is gone by now.
        }
    }

    private async Task<bool> AnswersAsync(CancellationToken cancellation)
    {
        if (!File.Exists(SocketPath))
        {
            return false;
        }

        long began = TimeProvider.System.GetTimestamp();
        while (true)
        {
            try
            {
                await using NpgsqlConnection connection = Unpooled(DatabaseName);
                await connection.OpenAsync(cancellation);
                return true;
            }
            catch (PostgresException fault) when (fault.SqlState == PostgresErrorCodes.InvalidCatalogName)
            {
                await CreateDatabaseAsync(cancellation);
            }
            catch (PostgresException fault) when (fault.SqlState == PostgresErrorCodes.CannotConnectNow
                && TimeProvider.System.GetElapsedTime(began) < LongestStart)
            {
                await Task.Delay(Pause, cancellation);
            }
            catch (NpgsqlException fault) when (fault is not PostgresException && RunningProcess() is null)
            {
                return false; // A socket that a kill left behind.
            }
            catch (NpgsqlException fault) when (fault is not PostgresException
                && TimeProvider.System.GetElapsedTime(began) < TimeSpan.FromSeconds(10))
            {
                await Task.Delay(Pause, cancellation);
            }
            catch (NpgsqlException fault)
            {
                throw new StoreUnavailableException(
                    $"The private database in {Folder} runs but does not answer: {fault.Message}. "
                    + $"See {LogPath}; `experiments database stop` and the same command again start it anew.", fault);
            }
        }
    }

    private async Task CreateDatabaseAsync(CancellationToken cancellation)
    {
        await using NpgsqlConnection connection = Unpooled("postgres");
        await connection.OpenAsync(cancellation);
        await using NpgsqlCommand command = new(SqlText.Named("create-private-database"), connection);
        await command.ExecuteNonQueryAsync(cancellation);
    }

    private async Task StartAsync(Action<string> notice, CancellationToken cancellation)
    {
        PostgresBinaries binaries = await BinariesAsync(notice, cancellation);
        if (!Directory.Exists(DataFolder))
        {
            notice($"Making a private database in {Folder} …");
            await InitialiseAsync(binaries, cancellation);
        }

        PrepareSocketFolder();
        RemoveForeignPidFiles();
        if (!File.Exists(SocketPath) && RunningProcess() is int unreachable)
        {
            // A cleaner of old files took its socket; or its folder was removed and made again, and the server before it, when it noticed,
            // removed the socket that then stood there.
            notice($"The private database (process {unreachable}) has lost its socket; it is started anew …");
            await StopLockedAsync(cancellation);
        }

        long began = TimeProvider.System.GetTimestamp();
        while (true)
        {
            long before = File.Exists(LogPath) ? new FileInfo(LogPath).Length : 0;
            Task<(int ExitCode, string Output)> starting = ServerProcess.RunAsync(
                binaries.PgCtl,
                ["start", "-D", DataFolder, "-l", LogPath, "-s", "-w", "-t", $"{LongestStart.TotalSeconds:0}", "-o", ServerOptions()],
                _user, cancellation);

            // pg_ctl looks every 100 ms whether the server is up; we look every 10, and its exit tells us of a failure.
            while (!starting.IsCompleted && RunningProcess() is null)
            {
                await Task.WhenAny(starting, Task.Delay(Pause, cancellation));
            }

            while (!starting.IsCompleted)
            {
                if (await AnswersAsync(cancellation))
                {
                    break;
                }

                await Task.Delay(Pause, cancellation);
            }

            if (!starting.IsCompleted || (starting.IsCompletedSuccessfully && starting.Result.ExitCode == 0))
            {
                if (await AnswersAsync(cancellation))
                {
                    return;
                }
            }

            (int exitCode, string output) = await starting;
            string log = LogSince(before);
            // The children of a killed server take a moment to notice.
            if (log.Contains("shared memory block", StringComparison.Ordinal)
                && TimeProvider.System.GetElapsedTime(began) < TimeSpan.FromSeconds(15))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(100), cancellation);
                continue;
            }

            // The last lines of the log only say that the recovery failed.
            throw new StoreUnavailableException(log.Contains("No space left on device", StringComparison.Ordinal)
                ? $"{StoreFaults.FullDisk(Folder, StoreFaults.LeastFreeBytes) ?? $"The private database's disk in {Folder} is full."} "
                    + "What was committed is stored; make room, and the next command starts it again."
                : $"The private database in {Folder} did not start (pg_ctl ended with {exitCode}): {Tail(log, output)}\nIts log is {LogPath}.");
        }
    }

    private async Task<PostgresBinaries> BinariesAsync(Action<string> notice, CancellationToken cancellation)
    {
        string path = Path.Combine(DataFolder, "PG_VERSION");
        int? major = null;
        if (Directory.Exists(DataFolder))
        {
            string version = File.Exists(path) ? (await File.ReadAllTextAsync(path, cancellation)).Trim() : "";
            major = int.TryParse(version, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number
                : throw new StoreUnavailableException(
                    $"{path} does not say which PostgreSQL made the data there (it holds '{version}'), so the data is damaged. Bring it back "
                    + $"from a copy; or, to begin anew without it, move {DataFolder} away.");
        }

        if (major < PostgresBinaries.OldestMajor)
        {
            throw new StoreUnavailableException(
                $"The data in {DataFolder} was made by PostgreSQL {major}; {PostgresBinaries.OldestMajor} or newer is needed. Upgrade it with "
                + "pg_upgrade; or, to begin anew without it, move that folder away.");
        }

        return await PostgresBinaries.FindAsync(major, BinariesFolder, cancellation)
            ?? await PostgresBinaries.FetchAsync(major, BinariesFolder, notice, cancellation);
    }

    private async Task InitialiseAsync(PostgresBinaries binaries, CancellationToken cancellation)
    {
        foreach (string left in Directory.EnumerateDirectories(Folder, "data.new-*"))
        {
            Directory.Delete(left, recursive: true); // What a kill during initdb left; we hold the lock.
        }

        // initdb's own words for a full disk are that a child ended with code 134.
        if (StoreFaults.FullDisk(Folder, LeastToBegin) is string full)
        {
            throw new StoreUnavailableException(
                $"{full} Make room, set XDG_DATA_HOME to a folder elsewhere, or EXPERIMENTS_POSTGRES to the connection string of a server.");
        }

        string temporary = Path.Combine(Folder, $"data.new-{Environment.ProcessId}");
        string output = "";
        foreach (string characters in (string[])["C.UTF-8", "C"])
        {
            // The files need no sync one by one here: the first checkpoint after the start makes durable what commits rest on.
            (int exitCode, output) = await ServerProcess.RunAsync(
                binaries.InitDb,
                ["-D", temporary, "-U", OwnerName, "--auth=trust", "--encoding=UTF8", "--locale=C", $"--lc-ctype={characters}", "--no-sync"],
                _user, cancellation);
            if (exitCode == 0)
            {
                Directory.Move(temporary, DataFolder);
                return;
            }

            if (!output.Contains("locale", StringComparison.Ordinal))
            {
                break;
            }
        }

        throw new StoreUnavailableException($"initdb could not make a database in {Folder}: {Tail(output, "")}");
    }

    private string ServerOptions()
    {
        Dictionary<string, string> settings = new(StringComparer.Ordinal)
        {
            // Nothing listens on the network, and the socket lies in a folder of this user alone.
            ["listen_addresses"] = "",
            ["port"] = "5432",
            ["unix_socket_directories"] = SocketFolder,
            ["unix_socket_permissions"] = "0700",
            ["cluster_name"] = "experiments",
            ["max_connections"] = "200",
            ["shared_buffers"] = "256MB",
            ["max_wal_size"] = "2GB",
            ["wal_compression"] = "on",
            // A summary of 100,000 trials then sorts in memory.
            ["work_mem"] = "32MB",
            ["random_page_cost"] = "1.1",
            ["jit"] = "off",
            ["TimeZone"] = "UTC",
            ["log_timezone"] = "UTC",
        };
        foreach ((string name, string value) in _options.Settings ?? new Dictionary<string, string>())
        {
            settings[name] = value;
        }

        return string.Join(' ', settings.Select(s => $"-c {s.Key}={s.Value}"));
    }

    private void EnsureKeeper()
    {
        if (_options.KeeperCommand is not { Count: > 0 } command)
        {
            return;
        }

        // A keeper that cannot read its time would end unheard, and the server never.
        PostgresKeeper.IdleFromEnvironment();
        using (FileLock? none = FileLock.TryAcquire(KeeperLockPath))
        {
            if (none is null)
            {
                return;
            }

            GiveToServersUser(KeeperLockPath);
        }

        using System.Diagnostics.Process keeper = BackgroundProcess.Launch([.. command, Folder]);
    }

    private void PrepareFolder()
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(Folder);
            return;
        }

        if (Folder.AsSpan().ContainsAny("\"$`\\") || Folder.Any(char.IsControl))
        {
            throw Unusable("pg_ctl starts the server by a shell and takes no \", $, `, \\ or line break in its path");
        }

        if (!Directory.Exists(Folder))
        {
            MakeReachable(Path.GetDirectoryName(Folder)!);
            Directory.CreateDirectory(Folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            GiveToServersUser(Folder);
        }

        RefuseOthersFolder();
    }

    /// <summary>What root makes in a user's folder is the user's: after `sudo experiments …` they go on without root.</summary>
    private void GiveToServersUser(string path)
    {
        if (_user is not null)
        {
            Unix.ChangeOwner(path, _user);
        }
    }

    /// <summary>In a folder that someone else may write, say below /tmp, they could plant a link where we write, or settings that
    /// run a program as us.</summary>
    [SuppressMessage("Interoperability", "CA1416", Justification = "Only called on a Unix.")]
    private void RefuseOthersFolder()
    {
        PathStatus status = Unix.Status(Directory.ResolveLinkTarget(Folder, returnFinalTarget: true)?.FullName ?? Folder)!.Value;
        bool ours = status.UserId == 0 || status.UserId == Unix.EffectiveUserId() || status.UserId == _user?.UserId;
        if (!ours || (status.Mode & (int)UnixFileMode.OtherWrite) != 0)
        {
            throw Unusable(ours ? "everyone may write it" : "it belongs to another user");
        }
    }

    /// <summary>Makes the folders above ours, passable whatever the umask: root's may be 077, and the server's user goes through them.</summary>
    [SuppressMessage("Interoperability", "CA1416", Justification = "Only called on a Unix.")]
    private static void MakeReachable(string folder)
    {
        if (Directory.Exists(folder))
        {
            return;
        }

        MakeReachable(Path.GetDirectoryName(folder)!);
        Directory.CreateDirectory(folder);
        File.SetUnixFileMode(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute
            | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
    }

    /// <summary>The folder of the socket: ours, closed to others. One in /tmp might have been put there by someone else first.</summary>
    private void PrepareSocketFolder()
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(SocketFolder);
            return;
        }

        const UnixFileMode Closed = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        if (Unix.Status(SocketFolder) is null)
        {
            Directory.CreateDirectory(SocketFolder, Closed);
            GiveToServersUser(SocketFolder);
        }

        uint owner = _user?.UserId ?? Unix.EffectiveUserId();
        if (Unix.Status(SocketFolder) is not PathStatus status || status.UserId != owner
            || (status.Mode & 0xF000) != 0x4000 || (status.Mode & 0x3F) != 0)
        {
            throw new StoreUnavailableException(
                $"{SocketFolder} is not a folder of this user alone, so no database socket is put into it. Remove it, or set "
                + "XDG_DATA_HOME to a folder with a shorter path.");
        }
    }

    /// <summary>Postgres itself clears lock files whose process is gone; it cannot when another program of its user has the
    /// number now, or when nobody reaped the killed one.</summary>
    private void RemoveForeignPidFiles()
    {
        if (RunningProcess() is not null)
        {
            return;
        }

        // Should a server stand in the folder all the same, Postgres itself sees that by its shared memory.
        foreach (string path in (string[])[PidPath, SocketPath + ".lock"])
        {
            File.Delete(path);
        }
    }

    private string LogSince(long position)
    {
        if (!File.Exists(LogPath))
        {
            return "";
        }

        using FileStream file = new(LogPath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        file.Position = Math.Min(position, file.Length);
        using StreamReader reader = new(file);
        return reader.ReadToEnd();
    }

    private static string Tail(string log, string output) =>
        string.Join('\n', (log.Trim().Length > 0 ? log : output).Trim().Split('\n').TakeLast(3)).Trim();

    /// <summary>Root may not run Postgres: the owner of the data does, or <c>postgres</c>, or <c>nobody</c>. Null for anyone else: oneself.</summary>
    private static UnixUser? ServerUser(string dataFolder)
    {
        if (!Unix.IsRoot)
        {
            return null;
        }

        return (Unix.Status(dataFolder) is PathStatus { UserId: > 0 } status ? Unix.FindUser((_, id) => id == status.UserId) : null)
            ?? Unix.FindUser((name, id) => name == "postgres" && id != 0)
            ?? Unix.FindUser((name, id) => name == "nobody" && id != 0)
            ?? throw new StoreUnavailableException(
                "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as. Add one, or "
                + "set EXPERIMENTS_POSTGRES to the connection string of a server.");
    }

    /// <summary>Short enough for a socket's address, and of characters that need no quoting anywhere.</summary>
    private static bool ShortEnough(string folder) =>
        Encoding.UTF8.GetByteCount(folder) <= LongestSocketFolder
        && folder.All(c => char.IsAsciiLetterOrDigit(c) || c is '/' or '.' or '-' or '_' || (OperatingSystem.IsWindows() && c is '\\' or ':'));

    private string ShortFolder()
    {
        uint user = OperatingSystem.IsWindows() ? 0 : _user?.UserId ?? Unix.EffectiveUserId();
        string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Folder)).AsSpan(0, 5));
        return OperatingSystem.IsWindows()
            ? Path.Combine(Path.GetTempPath(), $"experiments-{hash}")
            : $"/tmp/experiments-{user}-{hash}";
    }
}
