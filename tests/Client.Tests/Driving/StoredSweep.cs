using Experiments.Results.Store;
using Experiments.Testing;

namespace Experiments.Client.Tests.Driving;

/// <summary>A store with one finished sweep in it, made by the command line itself; shared by the tests that only read.</summary>
public sealed class StoredSweep : IAsyncLifetime
{
    public const string Tiny = """
        name: tiny
        question: Does the error fall with the degree?
        seed: 7
        instances:
          family: uniform
          n: [32, 64]
          d: 4
          bound: [0.5, 2]
          repeats: 2
        kernels:
          - kernel: exact
            precision: [float32]
          - kernel: low-rank
            degree: [2, 4]
            precision: [float32]
        measure: {rounds: 2, min_time: 1ms, max_noise: 0}
        """;

    public TemporaryFolder Folder { get; } = new();

    public StoreAddress Address { get; private set; } = null!;

    public Dictionary<string, string?> Environment { get; } = [];

    public Ran Run { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Address = await TestPostgres.CreateDatabaseAsync();
        Environment["EXPERIMENTS_POSTGRES"] = Address.Owner;
        Run = await Cli.RunAsync(Environment, "run", Folder.Write("tiny.yaml", Tiny));
    }

    public ValueTask DisposeAsync()
    {
        Folder.Dispose();
        return ValueTask.CompletedTask;
    }

    public Task<Ran> CliAsync(params string[] args) => Cli.RunAsync(Environment, args);
}
