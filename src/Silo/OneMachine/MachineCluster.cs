using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Experiments.Results.Processes;
using StackExchange.Redis;

namespace Experiments.Silo.OneMachine;

/// <param name="Name">"redis", or "silo 1" and so on.</param>
/// <param name="Path">Its state file.</param>
/// <param name="Log">Where its output goes.</param>
/// <param name="State">What it says of itself; null while it does not run.</param>
public sealed record ClusterProcess(string Name, string Path, string Log, MemberState? State);

/// <summary>A cluster of processes on this machine: a Redis and silos, each of them this program again.</summary>
/// <remarks>
/// <para>
/// Who owns what: the folder is the cluster's. A lock file beside it is held by whoever starts or stops something, so that two commands at once
/// take turns. Each process holds its own state file and thereby says that it lives. <c>cluster.json</c> holds what the processes must agree on: Redis'
/// port and password. Nothing else is remembered, so nothing can be remembered wrongly.
/// </para>
/// <para>
/// If the command stops exactly here: killed after it started a process, the process takes its state file, or ends because the folder is gone;
/// the next <c>up</c> finds it and starts only what is missing. Killed within <c>down</c>: the next <c>down</c> ends and removes the rest. The folder is moved away before
/// it is deleted, so that a process that was only just started cannot hold a file in it unseen.
/// </para>
/// </remarks>
public sealed class MachineCluster
{
    private const int MostSilos = 64;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    // It answers in a millisecond, unless the machine is overrun.
    private static readonly TimeSpan RedisPatience = TimeSpan.FromSeconds(10);

    // What a silo takes unless told otherwise, 20 s, and some for its connections.
    private static readonly TimeSpan DrainPatience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);
    private static readonly HttpClient Http = new() { Timeout = TimeSpan.FromSeconds(5) };

    private readonly string _clusters;

    /// <param name="clusters">The folder of all clusters of this user.</param>
    /// <param name="name">Letters, digits and hyphens.</param>
    public MachineCluster(string clusters, string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        if (name.Length > 40 || !name.All(c => char.IsAsciiLetterOrDigit(c) || c == '-') || name[0] == '-')
        {
            throw new ClusterSiloException($"The cluster's name is '{name}'; up to 40 letters, digits and hyphens are needed, such as experiments.");
        }

        (_clusters, Name, Folder) = (clusters, name, Path.Combine(clusters, name));
    }

    /// <summary>By which its silos find each other in Redis.</summary>
    public string Name { get; }

    /// <summary>Full path of where its settings, logs and Redis' data are, readable by this user alone; absent while it is down.</summary>
    public string Folder { get; }

    private string SettingsPath => Path.Combine(Folder, "cluster.json");

    /// <summary>Redis first, then the silos that run or have been up.</summary>
    public IReadOnlyList<ClusterProcess> Members() => MembersIn(Folder);

    /// <summary>Makes it so that this many silos run: starts what is missing, drains what is too much.</summary>
    /// <param name="silos">How many, from 0 to 64.</param>
    /// <param name="options">Words after <c>silo</c> that every silo that is started has, such as <c>--lanes 1</c>.</param>
    /// <param name="environment">What every silo that is started has in its environment beyond this process' own.</param>
    /// <param name="notice">Told what is being done.</param>
    /// <exception cref="ClusterSiloException">A process ended, or was not ready in time; its log's last lines are told. Those that run go on.</exception>
    public async Task UpAsync(
        int silos, IReadOnlyList<string> options, IReadOnlyDictionary<string, string> environment, Action<string> notice, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(silos);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(silos, MostSilos);
        using FileLock alone = await LockAsync(notice, cancellation);
        PrivateFolder(Folder);
        Settings settings = await EnsureRedisAsync(notice, cancellation);
        string asked = StartedWith.Text(options, environment);
        Dictionary<string, string> surroundings = new(environment)
        {
            [StartedWith.Variable] = asked,
            ["EXPERIMENTS_REDIS"] = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{settings.RedisPort},password={settings.RedisPassword}"),
        };
        List<ClusterProcess> tooMany = [.. Members().Where(m => m.State is not null && NumberOf(m) > silos)];
        foreach (ClusterProcess member in tooMany)
        {
            notice($"Draining {member.Name} …");
            Signal(member, BackgroundProcess.Terminate);
        }

        // One that a broken-off 'down' drains is still there, and is not what was asked for.
        foreach (ClusterProcess member in Members().Where(m => m.State is not null && NumberOf(m) > 0 && NumberOf(m) <= silos))
        {
            await SettledAsync(member, notice, cancellation);
        }

        TellOfOthers([.. Members().Where(m => NumberOf(m) > 0 && NumberOf(m) <= silos)], asked, notice);
        List<(Process Process, ClusterProcess Member)> started = [];
        try
        {
            foreach (ClusterProcess member in Enumerable.Range(1, silos).Select(i => Member(Folder, $"silo {i}")).Where(m => m.State is null))
            {
                notice($"Starting {member.Name} …");
                MemberFile.ForgetLast(member.Path);
                string[] words = ["silo", "--port", "0", "--health", "127.0.0.1:0", "--cluster", Name, "--state-file", member.Path, .. options];
                started.Add((BackgroundProcess.Launch(BackgroundProcess.CommandOfThis(words), member.Log, surroundings), member));
            }

            // One may be waited for after another: they start side by side.
            foreach ((Process process, ClusterProcess member) in started)
            {
                await ReadyAsync(process, member, () => IsReadyAsync(member, cancellation), cancellation);
            }
        }
        finally
        {
            started.ForEach(s => s.Process.Dispose());
        }

        foreach (ClusterProcess member in tooMany)
        {
            if (await EndedAsync(member, Patience, BackgroundProcess.Terminate, cancellation))
            {
                MemberFile.Forget(member.Path);
            }
        }
    }

    /// <summary>What runs is left as it is, shards and all, though it would be started otherwise now: that is said.</summary>
    private static void TellOfOthers(IReadOnlyList<ClusterProcess> members, string asked, Action<string> notice)
    {
        foreach (IGrouping<string, ClusterProcess> others in members
            .Where(m => m.State?.Started is not null)
            .GroupBy(m => string.Join(", ", StartedWith.Different(m.State!.Started!, asked)))
            .Where(g => g.Key.Length > 0))
        {
            notice($"{string.Join(", ", others.Select(m => m.Name))} {(others.Count() == 1 ? "runs" : "run")} on with another {others.Key} than is asked for now; "
                + "'experiments cluster down' and 'up' change that.");
        }
    }

    /// <summary>Starts Redis unless it runs and answers.</summary>
    private async Task<Settings> EnsureRedisAsync(Action<string> notice, CancellationToken cancellation)
    {
        Settings? settings = await ReadSettingsAsync(cancellation);
        ClusterProcess redis = Member(Folder, "redis");
        if (redis.State is not null)
        {
            for (long began = TimeProvider.System.GetTimestamp(); settings is not null && TimeProvider.System.GetElapsedTime(began) < RedisPatience;)
            {
                if (await AnswersAsync(settings))
                {
                    return settings;
                }

                await Task.Delay(Pause, cancellation);
            }

            // What it has answered is on disk.
            notice($"Redis ({Shown(redis)}) {(settings is null ? "runs by a password that is lost" : "does not answer")}; it is killed …");
            Signal(redis, BackgroundProcess.Kill);
            await EndedAsync(redis, Patience, BackgroundProcess.Kill, cancellation);
        }

        if (settings is null || !Ports.IsFreeOnLoopback(settings.RedisPort))
        {
            // The silos that run know the old address only; they would go on as another cluster, which nobody asks for work.
            await EndAsync(Folder, DrainPatience, notice, cancellation);
            settings = await NewSettingsAsync(cancellation);
        }

        notice($"Starting Redis on 127.0.0.1:{settings.RedisPort} …");
        MemberFile.ForgetLast(redis.Path);
        using Process process = BackgroundProcess.Launch(BackgroundProcess.CommandOfThis("cluster", "redis", Folder), redis.Log);
        await ReadyAsync(process, redis, () => AnswersAsync(settings), cancellation);
        return settings;
    }

    /// <summary>Waits until a silo that runs is ready, or has ended.</summary>
    private static async Task SettledAsync(ClusterProcess member, Action<string> notice, CancellationToken cancellation)
    {
        bool told = false;
        for (long began = TimeProvider.System.GetTimestamp(); MemberFile.Living(member.Path) is not null && !await IsReadyAsync(member, cancellation);)
        {
            TimeSpan waited = TimeProvider.System.GetElapsedTime(began);
            if (waited > Patience)
            {
                throw new ClusterSiloException(
                    $"{member.Name} ({Shown(member)}) runs and is not ready after {Patience.TotalSeconds:F0} s. Its log is {member.Log}. "
                    + "'experiments cluster down' ends it, if need be by force.");
            }

            if (!told && waited > TimeSpan.FromSeconds(1))
            {
                told = true;
                notice($"Waiting for {member.Name} ({Shown(member)}), which starts or ends …");
            }

            await Task.Delay(Pause, cancellation);
        }
    }

    /// <summary>Drains the silos, ends Redis, and leaves nothing behind.</summary>
    /// <param name="patience">How long a silo may take to drain; it is killed then.</param>
    /// <param name="notice">Told what is being done.</param>
    /// <returns>How many processes ran, and how many of them had to be killed.</returns>
    public async Task<(int Ended, int Killed)> DownAsync(TimeSpan patience, Action<string> notice, CancellationToken cancellation)
    {
        if (!Directory.Exists(_clusters))
        {
            return (0, 0);
        }

        using FileLock alone = await LockAsync(notice, cancellation);
        (int ended, int killed) = await EndAsync(Folder, patience, notice, cancellation);
        if (Directory.Exists(Folder))
        {
            Directory.Move(Folder, Path.Combine(_clusters, $".{Name}-{Guid.NewGuid():N}"));
        }

        // Beside the one just moved, those of a 'down' that was killed here.
        foreach (string removed in Directory.GetDirectories(_clusters, $".{Name}-*")
            .Where(folder => Guid.TryParseExact(Path.GetFileName(folder).AsSpan(Name.Length + 2), "N", out _)))
        {
            (int late, int lateKilled) = await EndAsync(removed, patience, notice, cancellation);
            (ended, killed) = (ended + late, killed + lateKilled);
            Directory.Delete(removed, recursive: true);
        }

        return (ended, killed);
    }

    /// <summary>Serves this cluster's Redis in this process until it is cancelled.</summary>
    /// <param name="folder">The cluster's.</param>
    /// <exception cref="ClusterSiloException">The folder is no cluster's, another process serves it, or its port is taken.</exception>
    public static async Task ServeRedisAsync(string folder, CancellationToken cancellation)
    {
        using MemberFile file = await MemberFile.HoldAsync(PathOf(folder, "redis"), cancellation);
        Settings settings = await ReadSettingsAsync(Path.Combine(folder, "cluster.json"), cancellation)
            ?? throw new ClusterSiloException($"{folder} is no cluster's folder: it holds no cluster.json.");
        string address = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{settings.RedisPort}");
        file.Say(address, null);
        await EmbeddedRedis.RunAsync(Path.Combine(folder, "redis"), settings.RedisPort, settings.RedisPassword, cancellation);
    }

    private static async Task<(int Ended, int Killed)> EndAsync(string folder, TimeSpan patience, Action<string> notice, CancellationToken cancellation)
    {
        int ended = 0, killed = 0;

        // The silos first, side by side: they leave the cluster, for which they need Redis.
        foreach (IGrouping<bool, ClusterProcess> group in MembersIn(folder).Where(m => m.State is not null).GroupBy(m => m.Name == "redis").OrderBy(g => g.Key))
        {
            foreach (ClusterProcess member in group)
            {
                notice($"{(member.Name == "redis" ? "Ending" : "Draining")} {member.Name} ({Shown(member)}) …");
                Signal(member, BackgroundProcess.Terminate);
            }

            long began = TimeProvider.System.GetTimestamp();
            foreach (ClusterProcess member in group)
            {
                ended++;
                TimeSpan left = patience - TimeProvider.System.GetElapsedTime(began);
                if (!await EndedAsync(member, left > TimeSpan.Zero ? left : TimeSpan.Zero, BackgroundProcess.Terminate, cancellation))
                {
                    killed++;
                    Signal(Member(folder, member.Name), BackgroundProcess.Kill);
                    if (!await EndedAsync(member, TimeSpan.FromSeconds(10), BackgroundProcess.Kill, cancellation))
                    {
                        throw new ClusterSiloException(
                            $"{member.Name} runs and cannot be ended: {(MemberFile.Living(member.Path)?.Process is int id
                                ? $"process {id} survives a kill" : $"{member.Path} does not say which process it is")}. "
                            + "End it by hand, then 'experiments cluster down' again.");
                    }
                }
            }
        }

        return (ended, killed);
    }

    /// <summary>Waits for a process that has been sent a signal.</summary>
    /// <param name="signal">Sent as soon as it says its number, when it had not said it yet.</param>
    private static async Task<bool> EndedAsync(ClusterProcess member, TimeSpan patience, Action<int> signal, CancellationToken cancellation)
    {
        int? told = member.State?.Process;
        for (long began = TimeProvider.System.GetTimestamp(); MemberFile.Living(member.Path) is MemberState state;)
        {
            if (told is null && state.Process is int id)
            {
                told = id;
                signal(id);
            }

            if (TimeProvider.System.GetElapsedTime(began) >= patience)
            {
                return false;
            }

            await Task.Delay(Pause, cancellation);
        }

        return true;
    }

    private static void Signal(ClusterProcess member, Action<int> signal)
    {
        if (member.State?.Process is int id)
        {
            signal(id);
        }
    }

    private static string Shown(ClusterProcess member) => member.State?.Process is int id ? $"process {id}" : "its process is not known yet";

    private static async Task ReadyAsync(Process process, ClusterProcess member, Func<Task<bool>> isReady, CancellationToken cancellation)
    {
        long began = TimeProvider.System.GetTimestamp();
        while (!await isReady())
        {
            bool late = TimeProvider.System.GetElapsedTime(began) > Patience;

            // One that an 'up' started and was killed may have come first; then ours has made way for it.
            bool ended = process.HasExited && MemberFile.Living(member.Path) is null;
            if (ended || late)
            {
                string what = ended ? "ended" : string.Create(CultureInfo.InvariantCulture, $"was not ready after {Patience.TotalSeconds:F0} s");
                throw new ClusterSiloException($"{member.Name} {what}: {LastLines(member.Log)}\nIts log is {member.Log}.");
            }

            await Task.Delay(Pause, cancellation);
        }
    }

    private static async Task<bool> AnswersAsync(Settings settings)
    {
        ConfigurationOptions options = new()
        {
            EndPoints = { { "127.0.0.1", settings.RedisPort } }, Password = settings.RedisPassword, ConnectTimeout = 1000, ConnectRetry = 1,
        };
        try
        {
            await using ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync(options);
            await connection.GetDatabase().PingAsync();
            return true;
        }
        catch (RedisException)
        {
            return false;
        }
    }

    private static async Task<bool> IsReadyAsync(ClusterProcess member, CancellationToken cancellation)
    {
        if (MemberFile.Living(member.Path)?.Health is not string health)
        {
            return false;
        }

        try
        {
            using HttpResponseMessage answer = await Http.GetAsync(new Uri($"http://{health}/health/ready"), cancellation);
            return answer.IsSuccessStatusCode;
        }
        catch (Exception fault) when (fault is HttpRequestException || (fault is TaskCanceledException && !cancellation.IsCancellationRequested))
        {
            return false; // It does not listen any more, or is stopped.
        }
    }

    private static List<ClusterProcess> MembersIn(string folder) => !Directory.Exists(folder) ? [] :
    [
        .. MemberFile.Was(PathOf(folder, "redis")) ? (ReadOnlySpan<ClusterProcess>)[Member(folder, "redis")] : [],
        .. Enumerable.Range(1, MostSilos).Select(i => $"silo {i}").Where(name => MemberFile.Was(PathOf(folder, name))).Select(name => Member(folder, name)),
    ];

    private static ClusterProcess Member(string folder, string name)
    {
        string path = PathOf(folder, name);
        return new(name, path, Path.ChangeExtension(path, ".log"), MemberFile.Living(path));
    }

    private static string PathOf(string folder, string name) => Path.Combine(folder, name.Replace(' ', '-') + ".state");

    private static int NumberOf(ClusterProcess member) =>
        member.Name == "redis" ? 0 : int.Parse(member.Name.AsSpan(member.Name.IndexOf(' ') + 1), CultureInfo.InvariantCulture);

    private static string LastLines(string log) =>
        File.Exists(log) ? string.Join(' ', File.ReadLines(log).Where(line => line.Length > 0).TakeLast(4)) : "it said nothing";

    /// <summary>Others of this machine may reach the port, and must not read the password.</summary>
    private static void PrivateFolder(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new ClusterSiloException("A cluster on one machine needs Linux or macOS: its processes are ended by signals.");
        }

        const UnixFileMode Ours = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        Directory.CreateDirectory(folder, Ours);
        if ((File.GetUnixFileMode(folder) & ~Ours) != 0)
        {
            // It was there already, and a copy that was restored forgets its modes.
            throw new ClusterSiloException($"{folder} is open to other users, who must not read the password in it. 'chmod 700' it, or remove it.");
        }
    }

    private async Task<FileLock> LockAsync(Action<string> notice, CancellationToken cancellation)
    {
        PrivateFolder(_clusters);
        string path = Path.Combine(_clusters, Name + ".lock");
        if (FileLock.TryAcquire(path) is FileLock free)
        {
            return free;
        }

        // It may take as long as a drain, or for ever where Ctrl-Z has stopped it.
        notice($"Another 'experiments cluster' starts or stops '{Name}'; waiting until it is done …");
        return await FileLock.AcquireAsync(path, cancellation);
    }

    private Task<Settings?> ReadSettingsAsync(CancellationToken cancellation) => ReadSettingsAsync(SettingsPath, cancellation);

    private static async Task<Settings?> ReadSettingsAsync(string path, CancellationToken cancellation)
    {
        try
        {
            Settings? settings = JsonSerializer.Deserialize<Settings>(await File.ReadAllBytesAsync(path, cancellation));
            return settings is { RedisPort: > 0 and <= ushort.MaxValue, RedisPassword.Length: > 0 } ? settings : null;
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException or JsonException)
        {
            return null;
        }
    }

    private async Task<Settings> NewSettingsAsync(CancellationToken cancellation)
    {
        Settings settings = new(Ports.FreeOnLoopback(), Convert.ToHexString(RandomNumberGenerator.GetBytes(24)));
        string temporary = SettingsPath + ".new";
        await File.WriteAllBytesAsync(temporary, JsonSerializer.SerializeToUtf8Bytes(settings), cancellation);
        File.Move(temporary, SettingsPath, overwrite: true);
        return settings;
    }

    private sealed record Settings(int RedisPort, string RedisPassword);
}
