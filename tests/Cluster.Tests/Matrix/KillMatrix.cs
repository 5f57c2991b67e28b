using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Experiments.Cluster.Tests.Driving;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Cluster.Tests.Matrix;

/// <summary>Does one fault after another to a cluster of three silos, and holds every sweep that it works at to an undisturbed one.</summary>
/// <remarks>What is done, to whom and after how long comes from the seed; what the cluster is at in that moment does not, so a seed that fails
/// may need some tries to fail again.</remarks>
internal sealed partial class KillMatrix(TestCluster cluster, RecoveryTable table, int seed, Action<string> tell) : IAsyncDisposable
{
    private const int Silos = 3;
    private const int Trials = 480;

    // Some 60 shards of a second or so on one lane each, of unequal lengths.
    private const string Sweep = """
        name: matrix
        seed: 12
        instances: {family: uniform, n: [512, 1024, 2048], d: 8, bound: 1, repeats: 80}
        kernels:
          - {kernel: exact, precision: float32}
          - {kernel: low-rank, degree: 3, precision: float32}
        measure: {rounds: 2, min_time: 10ms, max_noise: 0, sharing: true}
        """;

    // A hung silo is declared dead after 7 s; it wakes up well after that.
    private static readonly TimeSpan Hung = TimeSpan.FromSeconds(12);
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    private readonly Deck _deck = new(seed);
    private readonly List<Child> _alive = [];
    private readonly HashSet<long> _whole = [];
    private RedisServer? _second;
    private long _calm;

    /// <summary>Does so many faults, lets what runs end, stops the silos.</summary>
    public async Task RunAsync(int faults)
    {
        await ReplaceAsync();
        _calm = await cluster.SubmitAsync(Sweep);
        await cluster.UntilWholeAsync(_calm, Trials, Patience);
        _whole.Add(_calm);
        for (int i = 0; i < faults; i++)
        {
            Fault fault = _deck.Draw();
            await GiveWorkAsync();
            await Task.Delay(_deck.Random.Next(700));
            (TimeSpan commit, TimeSpan? elsewhere) = await DoAsync(fault);
            table.Add(fault, seed, commit, elsewhere);
            tell(string.Create(
                CultureInfo.InvariantCulture,
                $"{i + 1} of {faults}, {fault}: next commit after {commit.TotalSeconds:F2} s, shards elsewhere after {elsewhere?.TotalSeconds ?? double.NaN:F2} s"));
            await ReplaceAsync();
            await LookAsync(false);
        }

        await LookAsync(true);
        await StopAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (_second is not null)
        {
            await _second.DisposeAsync();
        }
    }

    private async Task<(TimeSpan Commit, TimeSpan? Elsewhere)> DoAsync(Fault fault)
    {
        switch (fault)
        {
            case Fault.KillSilo:
                return await KillAsync([Pick()]);
            case Fault.KillLeader:
                return await KillAsync([await LeaderAsync()]);
            case Fault.KillTwo:
                Child spared = Pick();
                return await KillAsync([.. _alive.Where(s => s != spared)]);
            case Fault.KillAll:
                return await KillAsync([.. _alive]);
            case Fault.BeforeLease or Fault.AfterLease or Fault.MidShard or Fault.BeforeCommit or Fault.AfterCommit:
                return await FailAsync(fault);
            case Fault.Terminate:
                return await TerminateAsync(Pick());
            case Fault.Hang:
                return await HangAsync(Pick());
            case Fault.HangLeader:
                return await HangAsync(await LeaderAsync());
            case Fault.CrashPostgres:
                return await CrashPostgresAsync(TimeSpan.FromSeconds(_deck.Random.Next(4) == 0 ? _deck.Random.Next(8, 25) : _deck.Random.Next(3)));
            case Fault.KillBackend:
                return await KillBackendAsync();
            case Fault.KillRedis or Fault.LoseRedis:
                string redisDied = await NowAsync();
                await cluster.RestartRedisAsync(TimeSpan.FromSeconds(_deck.Random.Next(9)), forgets: fault == Fault.LoseRedis);
                return (await NextCommitAsync(redisDied), null);
            case Fault.KillSubmit:
                return await KillClientAsync(["submit", await cluster.FileAsync(Sweep)], _deck.Random.Next(300, 2500));
            case Fault.KillWatch:
                return await KillClientAsync(["watch", $"{await RunningAsync()}"], _deck.Random.Next(500, 3000));
            default:
                return await SecondClusterAsync();
        }
    }

    private async Task<(TimeSpan, TimeSpan?)> KillAsync(Child[] victims)
    {
        string died = await NowAsync();
        Stopwatch watch = Stopwatch.StartNew();
        foreach (Child victim in victims)
        {
            victim.Signal("KILL");
        }

        await Task.WhenAll(victims.Select(v => v.EndAsync(TimeSpan.FromSeconds(10))));
        Task replaced = ReplaceAsync();
        TimeSpan? elsewhere = await ElsewhereAsync(victims, watch);
        TimeSpan commit = await NextCommitAsync(died);
        await replaced;
        return (commit, elsewhere);
    }

    /// <summary>A silo more, which kills itself at a point that it comes to.</summary>
    private async Task<(TimeSpan, TimeSpan?)> FailAsync(Fault fault)
    {
        string point = Capital().Replace(fault.ToString(), m => (m.Index > 0 ? "-" : "") + char.ToLowerInvariant(m.Value[0]));
        Child silo = await cluster.StartSiloAsync(
            new Dictionary<string, string?> { ["EXPERIMENTS_FAILPOINT"] = $"{point}:{_deck.Random.Next(1, 4)}" });
        Stopwatch watch = Stopwatch.StartNew();
        string died = "";
        while (silo.IsRunning)
        {
            Assert.True(watch.Elapsed < Patience, $"The silo never came to {point}. It said:\n{silo.Said}");
            await GiveWorkAsync();
            died = await NowAsync();
            await Task.Delay(10);
        }

        watch.Restart();
        return (await NextCommitAsync(died), await ElsewhereAsync([silo], watch));
    }

    private async Task<(TimeSpan, TimeSpan?)> TerminateAsync(Child victim)
    {
        string told = await NowAsync();
        Stopwatch watch = Stopwatch.StartNew();
        victim.Signal("TERM");
        Assert.Equal(0, await victim.EndAsync(TimeSpan.FromSeconds(60)));
        return (await NextCommitAsync(told), await ElsewhereAsync([victim], watch));
    }

    private async Task<(TimeSpan, TimeSpan?)> HangAsync(Child victim)
    {
        string hung = await NowAsync();
        Stopwatch watch = Stopwatch.StartNew();
        victim.Signal("STOP");
        TimeSpan? elsewhere = await ElsewhereAsync([victim], watch);
        TimeSpan commit = await NextCommitAsync(hung);
        TimeSpan left = Hung - watch.Elapsed;
        if (left > TimeSpan.Zero)
        {
            await Task.Delay(left);
        }

        victim.Signal("CONT");

        // It may find that it was declared dead, and start anew after two seconds; a signal to drain would end it unheard until it listens again.
        await Task.Delay(6000);
        return (commit, elsewhere);
    }

    private async Task<(TimeSpan, TimeSpan?)> CrashPostgresAsync(TimeSpan away)
    {
        await cluster.Postgres.CrashAsync();
        await Task.Delay(away);
        await cluster.RestartPostgresAsync();

        // What counts is from when it is there again.
        return (await NextCommitAsync((await ListAsync<string>("SELECT pg_postmaster_start_time()::text"))[0]), null);
    }

    /// <summary>One process of the server is killed, whereupon the server puts down the others, replays its log and goes on.</summary>
    private async Task<(TimeSpan, TimeSpan?)> KillBackendAsync()
    {
        int[] all = await ListAsync<int>("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
        string died = await NowAsync();
        Kill(all[_deck.Random.Next(all.Length)]);
        return (await NextCommitAsync(died), null);
    }

    private async Task<(TimeSpan, TimeSpan?)> KillClientAsync(string[] command, int afterMilliseconds)
    {
        await using Child client = await cluster.StartAsync(command);
        await Task.Delay(afterMilliseconds);
        string died = await NowAsync();
        client.Signal("KILL");
        return (await NextCommitAsync(died), null);
    }

    /// <summary>A silo of another cluster, with another Redis, comes to the same store by accident, works, and is killed.</summary>
    private async Task<(TimeSpan, TimeSpan?)> SecondClusterAsync()
    {
        _second ??= await RedisServer.StartAsync();
        Child silo = await cluster.StartSiloAsync(
            new Dictionary<string, string?> { ["EXPERIMENTS_REDIS"] = $"127.0.0.1:{_second.Port}" }, "--cluster", "another");
        for (Stopwatch watch = Stopwatch.StartNew(); await CountAsync($"shard WHERE state = 'done' AND node_id IN ({Nodes([silo])})") == 0;)
        {
            Assert.True(watch.Elapsed < Patience && silo.IsRunning, $"The other cluster's silo stored nothing. It said:\n{silo.Said}");
            await GiveWorkAsync();
            await Task.Delay(50);
        }

        return await KillAsync([silo]);
    }

    private Child Pick() => _alive[_deck.Random.Next(_alive.Count)];

    /// <summary>The silo that holds the grain of a sweep that runs, by what it has said.</summary>
    private async Task<Child> LeaderAsync()
    {
        long sweep = await RunningAsync();
        for (Stopwatch watch = Stopwatch.StartNew(); ; await Task.Delay(20))
        {
            if (_alive.Find(s => s.Said.Contains($"Sweep {sweep} is led from here", StringComparison.Ordinal)) is Child leader)
            {
                return leader;
            }

            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(60), $"Nobody leads sweep {sweep}. The silos said:\n{cluster.Logs()}");
        }
    }

    /// <summary>As many silos as there were; what has ended is forgotten.</summary>
    private async Task ReplaceAsync()
    {
        _alive.RemoveAll(s => !s.IsRunning);
        Child[] fresh = await Task.WhenAll(Enumerable.Range(0, Silos - _alive.Count).Select(_ => cluster.AddSiloAsync()));
        _alive.AddRange(fresh);
    }

    /// <summary>Sees to it that a sweep is in progress, with enough left for what is to be done next.</summary>
    private async Task GiveWorkAsync()
    {
        if (await CountAsync("shard s JOIN experiments.sweep w ON w.id = s.sweep_id WHERE w.state = 'running' AND s.state <> 'done'") < 25)
        {
            long sweep = await cluster.SubmitAsync(Sweep);
            await cluster.UntilAsync($"SELECT EXISTS (SELECT FROM experiments.shard WHERE sweep_id = {sweep} AND state <> 'ready')", Patience);
        }
    }

    private Task<long> RunningAsync() => cluster.ScalarAsync<long>(
        "SELECT sweep_id FROM experiments.shard s JOIN experiments.sweep w ON w.id = s.sweep_id WHERE w.state = 'running' "
        + "GROUP BY sweep_id ORDER BY count(*) FILTER (WHERE s.state <> 'done') DESC LIMIT 1");

    /// <summary>Holds the sweeps that are done to the undisturbed one, or all of them, after they are done.</summary>
    private async Task LookAsync(bool all)
    {
        foreach (long sweep in await ListAsync<long>($"SELECT id FROM experiments.sweep{(all ? "" : " WHERE state = 'done'")} ORDER BY id"))
        {
            if (_whole.Add(sweep))
            {
                await cluster.UntilWholeAsync(sweep, Trials, Patience, _calm);
            }
        }
    }

    /// <summary>Nothing is leased, every silo leaves when it is told to, and nobody is left in the store.</summary>
    private async Task StopAsync()
    {
        Assert.Equal(0, await CountAsync("shard WHERE state <> 'done'"));
        foreach (Child silo in _alive.Where(s => s.IsRunning))
        {
            silo.Signal("TERM");
            Assert.Equal(0, await silo.EndAsync(TimeSpan.FromSeconds(60)));
        }

        Assert.All(cluster.Silos, s => Assert.False(s.IsRunning));
        Assert.All(cluster.Silos, s => Assert.False(Child.Runs(s.Id)));
        Assert.Equal(0, await CountAsync("live_node"));
        string[] faults = [.. cluster.Silos.SelectMany(s => s.Said.Split('\n')).Where(l => l.Contains("ended here by a fault", StringComparison.Ordinal))];
        tell($"{_whole.Count} sweeps of {Trials} trials whole; {cluster.Silos.Count} silos; {faults.Length} sessions ended by a fault:");
        foreach (IGrouping<string, string> kind in faults.GroupBy(f => Number().Replace(f, "#")).OrderByDescending(k => k.Count()))
        {
            tell($"  {kind.Count()} × {kind.First()}");
        }
    }

    /// <summary>The store's clock, which every commit's time is by.</summary>
    private Task<string> NowAsync() => WhileAwayAsync(() => cluster.ScalarAsync<string>("SELECT clock_timestamp()::text"));

    private Task<long> CountAsync(string what) => WhileAwayAsync(() => cluster.ScalarAsync<long>($"SELECT count(*) FROM experiments.{what}"));

    /// <summary>From a time to the first commit after it, once there is one.</summary>
    private async Task<TimeSpan> NextCommitAsync(string since)
    {
        for (Stopwatch watch = Stopwatch.StartNew(); ;)
        {
            double? seconds = (await ListAsync<double?>(
                $"SELECT extract(epoch FROM min(committed_at) - '{since}')::float8 FROM experiments.shard WHERE committed_at > '{since}'"))[0];
            if (seconds is double s)
            {
                return TimeSpan.FromSeconds(s);
            }

            Assert.True(watch.Elapsed < Patience, $"No commit for {watch.Elapsed}. The silos said:\n{cluster.Logs()}");
            await Task.Delay(20);
            if (watch.Elapsed > TimeSpan.FromSeconds(30))
            {
                await GiveWorkAsync();
            }
        }
    }

    /// <summary>Waits until what is leased to dead silos now is so no more; null if there is nothing.</summary>
    private async Task<TimeSpan?> ElsewhereAsync(Child[] victims, Stopwatch since)
    {
        string theirs = $"shard WHERE state = 'leased' AND node_id IN ({Nodes(victims)})";
        bool any = false;
        while (await CountAsync(theirs) > 0)
        {
            any = true;
            Assert.True(since.Elapsed < Patience, $"Shards are still a dead silo's after {since.Elapsed}. The silos said:\n{cluster.Logs()}");
            await Task.Delay(20);
        }

        return any ? since.Elapsed : null;
    }

    /// <summary>The rows of these processes: the youngest by their numbers, since the system uses those again.</summary>
    private static string Nodes(Child[] silos) =>
        $"SELECT max(id) FROM experiments.node WHERE process_id IN ({string.Join(", ", silos.Select(s => s.Id))}) GROUP BY process_id";

    private Task<T[]> ListAsync<T>(string sql) => WhileAwayAsync(async () =>
    {
        List<T> list = [];
        await using NpgsqlCommand command = cluster.Reader.CreateCommand(sql);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            list.Add(reader.IsDBNull(0) ? default! : reader.GetFieldValue<T>(0));
        }

        return list.ToArray();
    });

    /// <summary>Asks again while the server replays its log.</summary>
    private static async Task<T> WhileAwayAsync<T>(Func<Task<T>> ask)
    {
        for (Stopwatch watch = Stopwatch.StartNew(); ; await Task.Delay(20))
        {
            try
            {
                return await ask();
            }
            catch (Exception fault) when (watch.Elapsed < Patience && fault is NpgsqlException)
            {
                NpgsqlConnection.ClearAllPools();
            }
        }
    }

    private static void Kill(int id)
    {
        using Process kill = Process.Start("/bin/kill", ["-s", "KILL", id.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }

    [GeneratedRegex("[A-Z]")]
    private static partial Regex Capital();

    [GeneratedRegex("[0-9.]+")]
    private static partial Regex Number();
}
