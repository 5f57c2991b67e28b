using System.Net;
using Experiments.Grains;
using Experiments.Grains.Running;
using Experiments.Grains.Worker;
using Experiments.Results.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

namespace Experiments.Silo;

/// <param name="Lanes">Compute threads for sweeps that share the machine; null means one less than its cores, at least 1.</param>
/// <param name="Verbose">Warnings of the silo go to standard error; nothing ever goes to standard output.</param>
public sealed record LocalSiloOptions(int? Lanes = null, bool Verbose = false)
{
    /// <summary>The node's name in the store; the machine's when null.</summary>
    public string? Name { get; init; }

    /// <summary>What can run here.</summary>
    public Workbench Workbench { get; init; } = Workbench.BuiltIn;

    /// <summary>The plug-ins whose kernels and families are among those of <see cref="Workbench"/>, as they are recorded with the
    /// node.</summary>
    public IReadOnlyList<PlugIn> PlugIns { get; init; } = [];

    /// <summary>Leases, and how long the first interruption lets a running shard go on.</summary>
    public SweepWorkerOptions Worker { get; init; } = new();

    /// <summary>As of <see cref="RuntimeOptions"/>.</summary>
    public IsolationOptions? Isolation { get; init; }

    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>As of <see cref="RuntimeOptions"/>.</summary>
    public double TraceShare { get; init; } = 1;

    /// <summary>Where the files that sweeps carry are kept.</summary>
    public FileCacheOptions Files { get; init; } = FileCacheOptions.Of(Environment.GetEnvironmentVariable);
}

/// <summary>One silo and its client in this process, listening on one loopback port, for <c>experiments run</c>.</summary>
public sealed class LocalSilo : IAsyncDisposable
{
    private readonly IHost _host;
    private readonly SweepWorker _worker;
    private readonly SiloTelemetry _telemetry;

    private LocalSilo(IHost host)
    {
        _host = host;
        _worker = host.Services.GetRequiredService<SweepWorker>();
        _telemetry = host.Services.GetRequiredService<SiloTelemetry>();
    }

    /// <summary>The silo's services, for tests.</summary>
    internal IServiceProvider Services => _host.Services;

    /// <summary>Starts Orleans while the store is still starting; returns when the silo is up. The store stays the caller's
    /// to dispose, after the silo.</summary>
    public static async Task<LocalSilo> StartAsync(
        LocalSiloOptions options, Task<ResultStore> store, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(store);

        // The empty builder: no configuration files, no console logger, and half a second less than the full one.
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        if (options.Verbose)
        {
            builder.Logging.AddProvider(new StandardErrorLog());
        }

        // Ctrl-C is the command's to answer, not the host's.
        builder.Services.AddSingleton<IHostLifetime, CommandLifetime>();
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = options.Worker.FinishWithin + options.Worker.GiveUpAfter);
        MemoryBudget memory = MemoryBudget.OfThisMachine();
        builder.UseOrleans(silo =>
        {
            silo.UseLocalhostClustering(Ports.FreeOnLoopback(), gatewayPort: 0);
            silo.Configure<EndpointOptions>(o => o.AdvertisedIPAddress = IPAddress.Loopback);
            silo.AddExperimentsRuntime(new RuntimeOptions(
                store, options.Workbench, NodeFacts.OfThisProcess(options.Name, options.PlugIns, memory), memory, options.Lanes)
            {
                Worker = options.Worker,
                Isolation = options.Isolation,
                Time = options.Time,
                Files = options.Files,
                TraceShare = options.TraceShare,
            });
        });

        IHost host = builder.Build();
        try
        {
            // Subscribed before the first span.
            _ = host.Services.GetRequiredService<SiloTelemetry>();
            await host.StartAsync(cancellation);
            return new LocalSilo(host);
        }
        catch
        {
            await DisposeAsync(host);
            throw;
        }
    }

    /// <summary>Runs that sweep, and no other, until it is done, cancelled or interrupted.</summary>
    /// <param name="finishRunning">Take nothing more; what runs may end within
    /// <see cref="SweepWorkerOptions.FinishWithin"/>, the rest is given back.</param>
    /// <param name="now">Cancel the kernels and give everything back at once.</param>
    /// <exception cref="StoreUnavailableException">The store went away for longer than its retries last.</exception>
    /// <exception cref="ArgumentException">The store has no such sweep.</exception>
    public async Task<SweepEnd> RunAsync(long sweepId, CancellationToken finishRunning, CancellationToken now)
    {
        SweepEnd end = await _worker.RunAsync(sweepId, finishRunning, now);
        _telemetry.Flush(TimeSpan.FromSeconds(5));
        return end with { SpansDropped = _telemetry.Spans.Dropped, OtlpFault = _telemetry.OtlpFault };
    }

    /// <summary>The sweep that <see cref="RunAsync"/> is at, or was last at; null before the first.</summary>
    public RunSnapshot? Snapshot() => _worker.Snapshot();

    public async ValueTask DisposeAsync()
    {
        try
        {
            await _host.StopAsync(CancellationToken.None);
        }
        finally
        {
            await DisposeAsync(_host);
        }
    }

    private static async ValueTask DisposeAsync(IHost host)
    {
        // Some of Orleans' services can only be disposed asynchronously.
        if (host is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }
        else
        {
            host.Dispose();
        }
    }

    private sealed class CommandLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
