using Experiments.Grains;
using Experiments.Grains.Running;
using Experiments.Grains.Worker;
using Experiments.Results.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace Experiments.Silo;

/// <summary>What a silo needs to run sweeps, whatever cluster it is in.</summary>
/// <param name="Memory">What trials may take, as the node tells it. The runtime's to dispose.</param>
/// <param name="Lanes">Compute threads; null means one less than the machine's cores, at least 1.</param>
public sealed record RuntimeOptions(Task<ResultStore> Store, Workbench Workbench, NodeRow Node, MemoryBudget Memory, int? Lanes = null)
{
    public SweepWorkerOptions Worker { get; init; } = new();

    /// <summary>How shards are computed that have killed silos; null for as all others are.</summary>
    public IsolationOptions? Isolation { get; init; }

    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>The share of shards whose spans are recorded, from 0 to 1.</summary>
    public double TraceShare { get; init; } = 1;

    /// <summary>Where the files that sweeps carry are kept.</summary>
    public FileCacheOptions Files { get; init; } = FileCacheOptions.Of(Environment.GetEnvironmentVariable);
}

public static class RuntimeHosting
{
    /// <summary>Adds the compute pool, the runner, the telemetry and, last, the worker: hosted services start in this order
    /// and stop in the opposite one, so that the worker starts after the silo and gives its leases back before it.</summary>
    public static ISiloBuilder AddExperimentsRuntime(this ISiloBuilder silo, RuntimeOptions options)
    {
        ArgumentNullException.ThrowIfNull(silo);
        ArgumentNullException.ThrowIfNull(options);
        silo.AddActivityPropagation();
        IServiceCollection services = silo.Services;
        services.TryAddSingleton(options.Time);
        services.AddSingleton(new StoreHandle(options.Store));
        services.AddSingleton(options.Workbench);
        services.AddSingleton(options.Node);
        services.AddSingleton(options.Worker);
        services.AddSingleton(_ => BuiltInCatalog.Create(options.Workbench));
        services.AddSingleton(_ => new ComputePool(options.Lanes ?? ComputePool.DefaultLanes));
        services.AddSingleton(_ => options.Memory);
        services.AddSingleton<IReferenceLibrary, StoredReferences>();
        services.AddSingleton(options.Files);
        services.AddSingleton<IFileSource, StoredFiles>();
        services.AddSingleton<IFileLibrary, FileCache>();
        services.AddSingleton<ShardRunner>();
        if (options.Isolation is IsolationOptions isolation)
        {
            services.AddSingleton(isolation);
            services.AddSingleton<IsolatedRunner>();
        }

        services.AddSingleton<ShardHost>();
        services.AddSingleton(s => new SiloTelemetry(s.GetRequiredService<StoreHandle>(), options.TraceShare));
        services.AddSingleton(s => s.GetRequiredService<SiloTelemetry>().Spans);
        services.AddSingleton<SweepWorker>();
        services.AddHostedService(s => s.GetRequiredService<SweepWorker>());
        return silo;
    }

    private sealed class StoredFiles(StoreHandle stores) : IFileSource
    {
        public async Task<StoredFile?> FindAsync(Guid content, CancellationToken cancellation) =>
            await (await stores.GetAsync(cancellation)).FindFileAsync(content, cancellation);

        public async Task<byte[]?> FindPieceAsync(Guid content, int number, CancellationToken cancellation) =>
            await (await stores.GetAsync(cancellation)).FindFilePieceAsync(content, number, cancellation);
    }

    private sealed class StoredReferences(StoreHandle stores) : IReferenceLibrary
    {
        // A lane is a thread of its own and has nothing better to do than wait.
        public Results.Outcomes.ReferenceRecord? Find(Guid instanceKey, CancellationToken cancellation) =>
            FindAsync(instanceKey, cancellation).GetAwaiter().GetResult();

        private async Task<Results.Outcomes.ReferenceRecord?> FindAsync(Guid instanceKey, CancellationToken cancellation)
        {
            ResultStore store = await stores.GetAsync(cancellation);
            try
            {
                return await store.FindReferenceAsync(instanceKey, cancellation);
            }
            catch (StoreUnavailableException away) when (away.MayPass)
            {
                // It is computed instead, to the same bits; whether the store is waited for is the commit's affair.
                return null;
            }
        }
    }
}
