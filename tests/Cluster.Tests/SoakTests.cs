using System.Globalization;
using Experiments.Cluster.Tests.Driving;
using Experiments.Cluster.Tests.Matrix;
using Experiments.Testing;

namespace Experiments.Cluster.Tests;

/// <summary>The kill matrix in its long form; see the README. Its short form is <see cref="KillTests"/>.</summary>
public sealed class SoakTests
{
    [Fact(Explicit = true)]
    public async Task Many_faults_in_a_row_lose_nothing_and_double_nothing()
    {
        Assert.SkipWhen(TestCluster.Unavailable is not null, TestCluster.Unavailable ?? "");
        int faults = int.Parse(Environment.GetEnvironmentVariable("EXPERIMENTS_SOAK_FAULTS") ?? "100", CultureInfo.InvariantCulture);
        string? kept = Environment.GetEnvironmentVariable("EXPERIMENTS_SOAK_FILE");
        int seed = int.Parse(Environment.GetEnvironmentVariable("EXPERIMENTS_TEST_SEED") ?? "1", CultureInfo.InvariantCulture);
        RecoveryTable table = new(kept ?? Path.GetTempFileName());
        await using TestCluster cluster = await TestCluster.StartAsync(0, await TestPostgres.StartOwnAsync());
        await using KillMatrix matrix = new(cluster, table, seed, line => Console.Error.WriteLine($"seed {seed}: {line}"));
        try
        {
            await matrix.RunAsync(faults);
        }
        catch (Exception fault)
        {
            throw new InvalidOperationException($"Seed {seed} of EXPERIMENTS_TEST_SEED: {fault.Message}", fault);
        }
        finally
        {
            Console.Error.WriteLine(table);
        }
    }
}
