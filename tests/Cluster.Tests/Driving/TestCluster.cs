using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Cluster.Tests.Driving;

/// <summary>A store and a Redis of its own, and as many silos as processes as a test wants.</summary>
internal sealed class TestCluster : IAsyncDisposable
{
    private readonly List<Child> _silos = [];
    private readonly string _folder;

    private RedisServer _redis;

    private TestCluster(StoreAddress store, TestPostgres postgres, RedisServer redis, string folder)
    {
        (Store, Postgres, _redis, _folder) = (store, postgres, redis, folder);
        Environment = new Dictionary<string, string?>
        {
            ["EXPERIMENTS_POSTGRES"] = store.Owner,
            ["XDG_CONFIG_HOME"] = folder,
            ["XDG_DATA_HOME"] = folder,
            ["DOTNET_DbgEnableMiniDump"] = "0",
            ["DOTNET_TieredPGO"] = "0",
        };
        Reader = NpgsqlDataSource.Create(store.Owner);
    }

    public StoreAddress Store { get; }

    /// <summary>The server that the store lies on: other tests' too, unless the test brought its own.</summary>
    public TestPostgres Postgres { get; }

    /// <summary>Gone with the cluster.</summary>
    public string Folder => _folder;

    public NpgsqlDataSource Reader { get; }

    public Dictionary<string, string?> Environment { get; }

    public IReadOnlyList<Child> Silos => _silos;

    public static string? Unavailable => RedisServer.Unavailable;

    /// <param name="silos">How many to begin with.</param>
    /// <param name="postgres">A server that the test may kill; null: the one that all share.</param>
    /// <param name="address">Where the Redis listens.</param>
    public static async Task<TestCluster> StartAsync(int silos, TestPostgres? postgres = null, string address = "127.0.0.1")
    {
        string folder = Directory.CreateTempSubdirectory("experiments-cluster-").FullName;
        postgres ??= await TestPostgres.SharedAsync();
        TestCluster cluster = new(await postgres.CreateStoreAsync(), postgres, await RedisServer.StartAsync(folder, address: address), folder);
        cluster.Environment["EXPERIMENTS_REDIS"] = $"{address}:{cluster._redis.Port}";
        await Task.WhenAll(Enumerable.Range(0, silos).Select(_ => cluster.AddSiloAsync()));
        return cluster;
    }

    /// <summary>One silo more, up and ready.</summary>
    public async Task<Child> AddSiloAsync(params string[] options)
    {
        Child silo = await StartSiloAsync(options);
        await silo.SaysAsync("Silo of cluster", TimeSpan.FromSeconds(60));
        return silo;
    }

    public Task<Child> StartSiloAsync(params string[] options) => StartSiloAsync(new Dictionary<string, string?>(), options);

    /// <summary>A silo that joins from elsewhere.</summary>
    public async Task<Child> AddSiloAsync(TestNetwork network, int member, IReadOnlyDictionary<string, string?> more, params string[] options)
    {
        Child silo = await StartSiloAsync(more, network.At(member), ["--bind", $"{network.AddressOf(member)}", .. options]);
        await silo.SaysAsync("Silo of cluster", TimeSpan.FromSeconds(60));
        return silo;
    }

    /// <param name="more">Environment beside the cluster's, or instead of it.</param>
    /// <param name="options">Of the command line.</param>
    public Task<Child> StartSiloAsync(IReadOnlyDictionary<string, string?> more, params string[] options) => StartSiloAsync(more, [], options);

    private async Task<Child> StartSiloAsync(IReadOnlyDictionary<string, string?> more, string[] before, string[] options)
    {
        Dictionary<string, string?> environment = new(Environment);
        foreach ((string name, string? value) in more)
        {
            environment[name] = value;
        }

        Child silo = await Child.StartAsync(environment, [.. before, .. Client(["silo", "--port", "0", "--lanes", "1", .. options])]);
        lock (_silos)
        {
            _silos.Add(silo);
        }

        return silo;
    }

    /// <summary>Kills the Redis and starts it again at the same place.</summary>
    /// <param name="away">How long there is none.</param>
    /// <param name="forgets">Whether it has lost what it kept.</param>
    public async Task RestartRedisAsync(TimeSpan away, bool forgets = false)
    {
        await _redis.DisposeAsync();
        if (forgets)
        {
            Directory.Delete(Path.Combine(_folder, "appendonlydir"), recursive: true);
        }

        await Task.Delay(away);
        _redis = await RedisServer.StartAsync(_folder, _redis.Port);
    }

    /// <summary>Starts the Postgres again after its crash; nothing where it still runs.</summary>
    public async Task RestartPostgresAsync()
    {
        await Postgres.Server.EnsureRunningAsync(_ => { }, CancellationToken.None);
        NpgsqlConnection.ClearAllPools();
        await TryStoredAsync(0);
    }

    /// <summary>A command that is under way.</summary>
    public Task<Child> StartAsync(params string[] args) => Child.StartAsync(Environment, Client(args));

    /// <summary>One command to its end; what it wrote to both outputs.</summary>
    public async Task<(int Code, string Said)> RunAsync(params string[] args)
    {
        await using Child child = await StartAsync(args);
        int code = await child.EndAsync(TimeSpan.FromMinutes(4));
        return (code, child.Said);
    }

    /// <summary>Stores a sweep for the silos; its number.</summary>
    public async Task<long> SubmitAsync(string yaml)
    {
        (int code, string said) = await RunAsync("submit", await FileAsync(yaml), "--json");
        Assert.True(code == 0, said);

        // The notice of the other output stands before it or after it.
        return (long)JsonNode.Parse(said[said.IndexOf('{', StringComparison.Ordinal)..(said.LastIndexOf('}') + 1)])!["sweep_id"]!;
    }

    public async Task<string> FileAsync(string text)
    {
        string file = Path.Combine(_folder, $"{Guid.NewGuid():N}.yaml");
        await File.WriteAllTextAsync(file, text);
        return file;
    }

    public async Task<T> ScalarAsync<T>(string sql)
    {
        await using NpgsqlCommand command = Reader.CreateCommand(sql);
        return (T)Convert.ChangeType(await command.ExecuteScalarAsync() ?? throw new InvalidOperationException(sql), typeof(T), CultureInfo.InvariantCulture)!;
    }

    public Task<long> StoredAsync(long sweep) => ScalarAsync<long>($"SELECT count(*) FROM experiments.trial WHERE sweep_id = {sweep}");

    /// <summary>How many of a sweep's trials are stored, asked again while the server cannot say.</summary>
    public async Task<long> TryStoredAsync(long sweep)
    {
        for (Stopwatch watch = Stopwatch.StartNew(); ; await Task.Delay(50))
        {
            try
            {
                return await StoredAsync(sweep);
            }
            catch (NpgsqlException) when (watch.Elapsed < TimeSpan.FromSeconds(30))
            {
                NpgsqlConnection.ClearAllPools();
            }
        }
    }

    /// <summary>Waits until nothing has been stored for so long, or the server has been away for so long.</summary>
    public async Task UntilQuietAsync(long sweep, TimeSpan quiet, TimeSpan within)
    {
        long last = -1;
        for (Stopwatch watch = Stopwatch.StartNew(), since = Stopwatch.StartNew(); since.Elapsed < quiet; await Task.Delay(100))
        {
            Assert.True(watch.Elapsed < within, $"Trials were stored until {watch.Elapsed}.");
            try
            {
                long stored = await StoredAsync(sweep);
                if (stored != last)
                {
                    last = stored;
                    since.Restart();
                }
            }
            catch (NpgsqlException away)
            {
                Debug.WriteLine(away.Message);
            }
        }
    }

    /// <summary>Waits until the statement says true.</summary>
    public async Task UntilAsync(string sql, TimeSpan within)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!await ScalarAsync<bool>(sql))
        {
            Assert.True(watch.Elapsed < within, $"Not true after {watch.Elapsed}: {sql}. The silos said:\n{Logs()}");
            await Task.Delay(10);
        }
    }

    /// <summary>Waits until so many trials are stored.</summary>
    public async Task UntilStoredAsync(long sweep, long trials, TimeSpan within)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (await StoredAsync(sweep) < trials)
        {
            Assert.True(watch.Elapsed < within, $"{await StoredAsync(sweep)} of {trials} trials after {watch.Elapsed}. The silos said:\n{Logs()}");
            await Task.Delay(50);
        }
    }

    /// <summary>Waits until the sweep is done, and holds what is stored to it: as many rows as were planned, each once, each with its trace, and
    /// the gradients of a run that nothing disturbed.</summary>
    /// <returns>How long it took.</returns>
    public async Task<TimeSpan> UntilWholeAsync(long sweep, long trials, TimeSpan within, long? undisturbed = null)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (await ScalarAsync<string>($"SELECT state FROM experiments.sweep WHERE id = {sweep}") != "done")
        {
            Assert.True(watch.Elapsed < within, $"{await StoredAsync(sweep)} of {trials} trials after {watch.Elapsed}. The silos said:\n{Logs()}");
            await Task.Delay(50);
        }

        Assert.Equal(trials, await StoredAsync(sweep));
        Assert.Equal(trials, await ScalarAsync<long>($"SELECT count(DISTINCT trial) FROM experiments.trial WHERE sweep_id = {sweep}"));
        Assert.Equal(trials - 1, await ScalarAsync<long>($"SELECT max(trial) FROM experiments.trial WHERE sweep_id = {sweep}"));
        Assert.Equal(0, await ScalarAsync<long>(
            $"SELECT count(*) FROM experiments.trial t WHERE sweep_id = {sweep} AND NOT EXISTS "
            + "(SELECT FROM experiments.span s WHERE s.trace_id = t.trace_id AND s.name = 'shard')"));
        Assert.Equal(trials, await ScalarAsync<long>($"SELECT trials_done FROM experiments.sweep WHERE id = {sweep}"));
        if (undisturbed is long other)
        {
            Assert.Equal(0, await ScalarAsync<long>(
                $"SELECT count(*) FROM experiments.trial a FULL JOIN experiments.trial b ON b.sweep_id = {other} AND b.trial = a.trial "
                + $"WHERE (a.sweep_id = {sweep} OR a.sweep_id IS NULL) AND (b.sweep_id = {other} OR b.sweep_id IS NULL) "
                + "AND (a.digest, a.trial_key) IS DISTINCT FROM (b.digest, b.trial_key)"));
        }

        return watch.Elapsed;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (Child silo in _silos)
        {
            await silo.DisposeAsync();
        }

        await _redis.DisposeAsync();
        await Reader.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>What was said by the silos that run and by the last that ended.</summary>
    public string Logs()
    {
        lock (_silos)
        {
            return string.Join("\n----\n", _silos.Where(s => s.IsRunning).Concat(_silos.Where(s => !s.IsRunning).TakeLast(4)).Select(s => s.Said));
        }
    }

    private static string[] Client(string[] args) => ["dotnet", Path.Combine(AppContext.BaseDirectory, "experiments.dll"), .. args];
}
