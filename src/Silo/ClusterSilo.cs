using System.Net;
using System.Net.Sockets;
using Experiments.Grains;
using Experiments.Grains.Running;
using Experiments.Grains.Worker;
using Experiments.Results.Store;
using Experiments.Silo.Security;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;
using StackExchange.Redis;

namespace Experiments.Silo;

/// <summary>A silo of a cluster cannot be started as it was asked to; the message is one line that says what to do.</summary>
public sealed class ClusterSiloException(string message, Exception? inner = null) : Exception(message, inner);

/// <param name="Redis">StackExchange.Redis connection string of the cluster's membership.</param>
/// <param name="Bind">Where the silo listens, and what it tells the others to reach it by.</param>
/// <param name="Port">TCP port; 0 for one that is free.</param>
public sealed record ClusterSiloOptions(string Redis, IPAddress Bind, int Port)
{
    /// <summary>Silos of one name form one cluster, whatever else uses the Redis.</summary>
    public string Cluster { get; init; } = "experiments";

    /// <summary>Silos of another build are not joined: what a grain's messages mean may have changed. Both work at the store's sweeps, as two clusters may.</summary>
    public string Build { get; init; } = NodeFacts.Build;

    /// <summary>The node's name in the store; the machine's when null.</summary>
    public string? Name { get; init; }

    /// <summary>Compute threads for sweeps that share the machine; null means one less than its cores, at least 1.</summary>
    public int? Lanes { get; init; }

    /// <summary>How long running shards may go on after the first signal; the rest is given back at once.</summary>
    public TimeSpan Drain { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>Certificates of the silos' connections; null for none, which is allowed on loopback only.</summary>
    public ClusterTlsOptions? Tls { get; init; }

    /// <summary>Where health, readiness and metrics are served; null for nowhere.</summary>
    public IPEndPoint? Health { get; init; }

    public Workbench Workbench { get; init; } = Workbench.BuiltIn;

    public IReadOnlyList<PlugIn> PlugIns { get; init; } = [];

    /// <summary>As of <see cref="RuntimeOptions"/>.</summary>
    public IsolationOptions? Isolation { get; init; }

    /// <summary>As of <see cref="RuntimeOptions"/>.</summary>
    public double TraceShare { get; init; } = 1;

    /// <summary>Where the files that sweeps carry are kept.</summary>
    public FileCacheOptions Files { get; init; } = FileCacheOptions.Of(Environment.GetEnvironmentVariable);

    /// <summary>What is done when the other silos have declared this one dead, before its process is ended; null for nothing.</summary>
    public Action? DeclaredDead { get; init; }

    /// <summary>The log, as JSON lines on standard error; false for plain lines.</summary>
    public bool JsonLog { get; init; }
}

/// <summary>One silo of a cluster: membership in Redis, work from Postgres, until it is told to stop.</summary>
/// <remarks>
/// Timings, measured with three silos: a killed process is declared dead after 1.3 s, a hung one after 7 s, and a cluster that was killed whole
/// and started again works after 11 s (the defaults: 12 s, 66 s, 92 s). No gateway: whoever submits or watches reaches Postgres only.
/// </remarks>
public sealed class ClusterSilo : IAsyncDisposable
{
    private static readonly TimeSpan StorePatience = TimeSpan.FromMinutes(30);

    private static readonly TimeSpan UntoldPatience = TimeSpan.FromSeconds(1);

    private readonly IHost _host;
    private readonly HealthServer? _health;
    private bool _abandoned;

    private ClusterSilo(IHost host, IPEndPoint endpoint, HealthServer? health) => (_host, Endpoint, _health) = (host, endpoint, health);

    /// <summary>Where the silo listens.</summary>
    public IPEndPoint Endpoint { get; }

    /// <summary>Where health is served, with the port that was taken; null for nowhere.</summary>
    public IPEndPoint? Health => _health?.Endpoint;

    /// <summary>Null, or why what should have gone by OTLP did not all arrive.</summary>
    public string? OtlpFault => _host.Services.GetRequiredService<SiloTelemetry>().OtlpFault;

    internal IServiceProvider Services => _host.Services;

    /// <summary>Joins the cluster. The store stays the caller's to dispose, after the silo.</summary>
    /// <param name="store">May come later: the silo waits for it, and is not ready until then.</param>
    /// <exception cref="ClusterSiloException">The port is taken, Redis does not answer, or its connection string cannot be read.</exception>
    public static async Task<ClusterSilo> StartAsync(ClusterSiloOptions options, Task<ResultStore> store, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (ListenGuard.Refusal(options.Bind, options.Tls is not null) is string refusal)
        {
            throw new ClusterSiloException(refusal);
        }

        ConfigurationOptions redis = ReadRedis(options.Redis);
        IPEndPoint endpoint = new(options.Bind, PortFor(options.Bind, options.Port));
        if (options.Health is IPEndPoint asked)
        {
            CheckHealth(asked, endpoint);
        }

        await using (ConnectionMultiplexer probe = await ConnectAsync(redis))
        {
            // Asked once, before anything is started: Orleans' own words for a Redis that is away are a page long.
        }

        IHost host = Build(options, redis, endpoint, store);
        try
        {
            _ = host.Services.GetRequiredService<SiloTelemetry>();
            await host.StartAsync(cancellation);
            HealthServer? health = options.Health is IPEndPoint at
                ? await HealthServer.StartAsync(at, host.Services.GetRequiredService<SweepAttendant>(), cancellation) : null;
            return new ClusterSilo(host, endpoint, health);
        }
        catch
        {
            await DisposeAsync(host);
            throw;
        }
    }

    /// <summary>Takes nothing more, lets what runs end within the drain, gives the rest back, leaves the cluster.</summary>
    /// <param name="now">Cancels the kernels at once.</param>
    public async Task StopAsync(CancellationToken now)
    {
        _health?.IsDraining = true;
        using CancellationTokenRegistration hurry = now.Register(_host.Services.GetRequiredService<SweepWorker>().StopNow);
        CancellationToken untold = _host.Services.GetRequiredService<Departure>().Untold;
        SiloTelemetry telemetry = _host.Services.GetRequiredService<SiloTelemetry>();
        Task stopping = _host.StopAsync(untold);
        await Task.WhenAny(stopping, AfterAsync(untold));
        if (stopping.IsCompleted)
        {
            await stopping;

            // Only a flush finds out that a collector is silent; disposing, which sends the same, could tell nobody any more.
            telemetry.Flush(UntoldPatience);
            return;
        }

        // Orleans goes on trying, whatever it is told. Nothing of ours is in there any more but the spans.
        _abandoned = true;
        telemetry.Flush(UntoldPatience);
        telemetry.Dispose();
    }

    public async ValueTask DisposeAsync()
    {
        if (_health is not null)
        {
            await _health.DisposeAsync();
        }

        // Disposing would wait for the same; the process, which is about to end, takes it along.
        if (!_abandoned)
        {
            await DisposeAsync(_host);
        }
    }

    private static async Task AfterAsync(CancellationToken untold)
    {
        await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, untold).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Task.Delay(UntoldPatience, TimeProvider.System, CancellationToken.None);
    }

    private static async ValueTask DisposeAsync(IHost host)
    {
        if (host is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }
        else
        {
            host.Dispose();
        }
    }

    private static IHost Build(ClusterSiloOptions options, ConfigurationOptions redis, IPEndPoint endpoint, Task<ResultStore> store)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.SetMinimumLevel(LogLevel.Information);
        builder.Logging.AddFilter("Orleans", LogLevel.Warning);
        builder.Logging.AddFilter("Microsoft", LogLevel.Warning);
        // Orleans' retries: two lines for each grain that is placed.
        builder.Logging.AddFilter("Polly", LogLevel.Warning);
        builder.Logging.AddProvider(new StandardErrorLog(options.JsonLog));
        builder.Services.AddSingleton<IHostLifetime, CommandLifetime>();
        SweepWorkerOptions worker = new() { FinishWithin = options.Drain, WaitsForStore = true, StorePatience = StorePatience };
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = worker.FinishWithin + worker.GiveUpAfter);
        MemoryBudget memory = MemoryBudget.OfThisMachine();
        builder.UseOrleans(silo =>
        {
            silo.Configure<ClusterOptions>(o => (o.ServiceId, o.ClusterId) = ("experiments", $"{options.Cluster}@{options.Build}"));
            silo.Configure<EndpointOptions>(o =>
            {
                o.AdvertisedIPAddress = endpoint.Address;
                o.SiloPort = endpoint.Port;
                o.GatewayPort = 0;
                o.SiloListeningEndpoint = endpoint;
            });
            if (options.Tls is ClusterTlsOptions tls)
            {
                silo.UseClusterTls(tls);
            }

            silo.UseRedisClustering(o => o.ConfigurationOptions = redis);
            silo.Configure<ClusterMembershipOptions>(o =>
            {
                o.ProbeTimeout = TimeSpan.FromSeconds(1);
                o.MinProbeTimeout = TimeSpan.FromSeconds(0.5);
                o.MaxProbeTimeout = TimeSpan.FromSeconds(2);
                o.NumMissedProbesLimit = 3;
                o.TableRefreshTimeout = TimeSpan.FromSeconds(10);
                o.IAmAliveTablePublishTimeout = TimeSpan.FromSeconds(2);
                o.DefunctSiloExpiration = TimeSpan.FromHours(1);
            });
            // Before the worker, so that it is stopped after it.
            silo.Services.AddSingleton<Departure>();
            silo.Services.AddHostedService(s => s.GetRequiredService<Departure>());
            silo.AddExperimentsRuntime(new RuntimeOptions(
                store, options.Workbench, NodeFacts.OfThisProcess(options.Name, options.PlugIns, memory, attends: true), memory, options.Lanes)
            {
                Worker = worker, Isolation = options.Isolation, Files = options.Files, TraceShare = options.TraceShare,
            });
            if (options.DeclaredDead is Action declaredDead)
            {
                ServiceDescriptor usual = silo.Services.Last(s => s.ServiceType == typeof(IFatalErrorHandler));
                silo.Services.AddSingleton<IFatalErrorHandler>(
                    s => new DeathNotice((IFatalErrorHandler)ActivatorUtilities.CreateInstance(s, usual.ImplementationType!), declaredDead));
            }

            silo.Services.AddHostedService<MembershipWatch>();
            silo.Services.AddSingleton<SweepAttendant>();
            silo.Services.AddHostedService(s => s.GetRequiredService<SweepAttendant>());
        });
        return builder.Build();
    }

    private static ConfigurationOptions ReadRedis(string text)
    {
        const string Example = "A StackExchange.Redis connection string is needed, such as redis.example:6379,user=silo,password=…,ssl=true.";
        try
        {
            ConfigurationOptions redis = ConfigurationOptions.Parse(text);
            if (redis.EndPoints.Count == 0)
            {
                throw new ClusterSiloException($"The Redis connection string names no host. {Example}");
            }

            // As the parser has understood it, it is another address by now. What is not a setting is a host.
            if (text.Split(',').Where(p => !p.Contains('=', StringComparison.Ordinal)).Select(p => NetworkAddress.Shortened(p.Trim()))
                .FirstOrDefault(p => p is not null) is string shortened)
            {
                throw new ClusterSiloException($"The Redis connection string has the host '{shortened}', which is no whole address. {Example}");
            }

            // One that comes up later is waited for.
            redis.AbortOnConnectFail = false;
            redis.ClientName = "experiments-silo";
            return redis;
        }
        catch (Exception fault) when (fault is ArgumentException or FormatException)
        {
            // The parser's words may quote what it was given, password and all.
            throw new ClusterSiloException($"The Redis connection string cannot be read. {Example}", fault);
        }
    }

    private static async Task<ConnectionMultiplexer> ConnectAsync(ConfigurationOptions redis)
    {
        ConfigurationOptions once = redis.Clone();
        once.AbortOnConnectFail = true;
        string where = string.Join(", ", redis.EndPoints.Select(EndPointCollection.ToString));
        try
        {
            ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync(once);
            await connection.GetDatabase().PingAsync();
            return connection;
        }
        catch (RedisException fault)
        {
            string why = fault.Message.Contains("WRONGPASS", StringComparison.Ordinal) || fault.Message.Contains("NOAUTH", StringComparison.Ordinal)
                ? "refuses user or password" : "does not answer";
            throw new ClusterSiloException($"The Redis at {where} {why}. Start it, or correct EXPERIMENTS_REDIS.", fault);
        }
    }

    /// <summary>The port, proved to be free.</summary>
    private static int PortFor(IPAddress address, int port)
    {
        try
        {
            return Ports.Probe(address, port);
        }
        catch (SocketException fault)
        {
            throw new ClusterSiloException(
                fault.SocketErrorCode == SocketError.AddressAlreadyInUse
                    ? $"Port {port} of {address} is taken. Give the silo another, or 0 for one that is free."
                    : $"The silo cannot listen on {address}, port {port}: {fault.Message}.",
                fault);
        }
    }

    /// <summary>Before the silo is a member and takes work: where its health is to be served is free, and not its own port.</summary>
    private static void CheckHealth(IPEndPoint at, IPEndPoint silo)
    {
        if (at.Port == silo.Port && (at.Address.Equals(silo.Address) || IsAny(at.Address) || IsAny(silo.Address)))
        {
            throw new ClusterSiloException($"Health cannot be served at {at}: it is the silo's own port. Name another, or none.");
        }

        try
        {
            Ports.Probe(at.Address, at.Port);
        }
        catch (SocketException fault)
        {
            throw HealthServer.CannotServe(at, fault.SocketErrorCode == SocketError.AddressAlreadyInUse ? "the port is taken" : fault.Message, fault);
        }

        static bool IsAny(IPAddress address) => address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any);
    }

    /// <summary>Between Orleans and what it ends the process by. Only its membership knows of a silo that was declared dead, and tells it without an
    /// exception: with one it is a fault of its own, which ends the process as any other.</summary>
    private sealed class DeathNotice(IFatalErrorHandler usual, Action declaredDead) : IFatalErrorHandler
    {
        public bool IsUnexpected(Exception exception) => usual.IsUnexpected(exception);

        public void OnFatalException(object? sender = null, string? context = null, Exception? exception = null)
        {
            if (exception is null && sender?.GetType().Namespace == "Orleans.Runtime.MembershipService")
            {
                declaredDead();
            }

            usual.OnFatalException(sender, context, exception);
        }
    }

    private sealed class CommandLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
