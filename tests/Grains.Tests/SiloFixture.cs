using System.Globalization;
using System.Numerics;
using Experiments.Grains.Worker;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Grains.Tests;

/// <summary>A store of its own and what is needed to run sweeps in it.</summary>
internal sealed class SiloFixture : IAsyncDisposable
{
    private SiloFixture(StoreAddress address, ResultStore store, Workbench workbench)
    {
        Address = address;
        Store = store;
        Workbench = workbench;
        Reader = NpgsqlDataSource.Create(address.Owner);
    }

    public StoreAddress Address { get; }

    public ResultStore Store { get; }

    public Workbench Workbench { get; }

    public NpgsqlDataSource Reader { get; }

    public static async Task<SiloFixture> CreateAsync(params IGradientKernel[] kernels)
    {
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        return new SiloFixture(
            address, await ResultStore.OpenAsync(address, CancellationToken.None),
            new Workbench([.. Workbench.BuiltIn.Kernels, .. kernels], Workbench.BuiltIn.Families));
    }

    /// <summary>A silo of its own process's kind: its own connections, its own node.</summary>
    public async Task<LocalSilo> SiloAsync(SweepWorkerOptions? worker = null, double traceShare = 1) => await LocalSilo.StartAsync(
        new LocalSiloOptions { Workbench = Workbench, Worker = worker ?? new SweepWorkerOptions(), TraceShare = traceShare },
        Task.FromResult(Store), CancellationToken.None);

    /// <summary>Stores a sweep in shards of about that many trials.</summary>
    public async Task<long> CreateSweepAsync(string yaml, int shardTrials = 20, string? traceparent = null, int priority = 0)
    {
        Catalog catalog = BuiltInCatalog.Create(Workbench);
        SweepSpec spec = SweepFile.Parse(yaml, "test.yaml", ".", catalog);
        SweepExpansion expansion = new(spec, catalog);
        SweepCounts counts = expansion.Count();
        return await Store.CreateSweepAsync(
            new NewSweep(
                spec.Name, spec.Question, spec.Seed, spec.ToJson(), spec.Hash, yaml, counts.Instances, counts.Trials, traceparent, null)
            {
                Priority = priority,
            },
            expansion.Shards(new CostModel { ShardTrials = shardTrials }), CancellationToken.None);
    }

    public async Task<T> ScalarAsync<T>(string sql)
    {
        await using NpgsqlCommand command = Reader.CreateCommand(sql);
        return (T)Convert.ChangeType(await command.ExecuteScalarAsync() ?? throw new InvalidOperationException(sql), typeof(T), CultureInfo.InvariantCulture)!;
    }

    public async Task<List<object?[]>> RowsAsync(string sql)
    {
        await using NpgsqlCommand command = Reader.CreateCommand(sql);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        List<object?[]> rows = [];
        while (await reader.ReadAsync())
        {
            object?[] row = new object?[reader.FieldCount];
            reader.GetValues(row!);
            rows.Add(row);
        }

        return rows;
    }

    /// <summary>Trial numbers 0, 1, 2, … each stored once.</summary>
    public async Task AssertCompleteAsync(long sweep, long trials)
    {
        List<object?[]> rows = await RowsAsync($"SELECT trial FROM experiments.trial WHERE sweep_id = {sweep} ORDER BY trial");
        Assert.Equal(Enumerable.Range(0, (int)trials).Select(i => (long)i), rows.Select(r => Convert.ToInt64(r[0], CultureInfo.InvariantCulture)));
    }

    public async ValueTask DisposeAsync()
    {
        await Reader.DisposeAsync();
        await Store.DisposeAsync();
    }

    /// <summary>The exact kernel, after a wait that cancellation ends.</summary>
    public sealed class Slow(TimeSpan wait) : IGradientKernel
    {
        private int _calls;

        /// <summary>How long a call waits; a test may change it between runs.</summary>
        public TimeSpan Wait { get; set; } = wait;

        /// <summary>Whether a call fails instead.</summary>
        public bool Broken { get; set; }

        public string Name => "slow";

        public string Summary => "Waits, then computes exactly.";

        public IReadOnlyList<Axis> Axes => [];

        public int Calls => Volatile.Read(ref _calls);

        public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) => new(1e6, 1000, null);

        public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            Interlocked.Increment(ref _calls);
            context.Cancellation.WaitHandle.WaitOne(Wait);
            context.Cancellation.ThrowIfCancellationRequested();
            if (Broken)
            {
                throw new KernelFailure("broken on purpose");
            }

            BuiltIn.Kernel("exact").Compute(problem, settings, output, context);
        }
    }
}
