using System.Reflection;
using Experiments.Results.Store;
using Experiments.Silo;

namespace Experiments.Grains.Tests;

public sealed class ArchitectureTests
{
    [Fact]
    public void References_between_the_rooms_point_one_way()
    {
        Assert.Empty(Ours(typeof(Kernels.BuiltIn).Assembly));
        Assert.Empty(Ours(typeof(ResultStore).Assembly));
        Assert.Equal(["Experiments.Kernels", "Experiments.Results"], Ours(typeof(ISweepGrain).Assembly));
        Assert.Contains("Experiments.Grains", Ours(typeof(LocalSilo).Assembly));
        Assert.DoesNotContain("experiments", Ours(typeof(LocalSilo).Assembly));
    }

    /// <summary>It is a program of its own, which draws no table and reads no CSV.</summary>
    [Fact]
    public void The_silo_has_nothing_that_only_the_client_needs() =>
        Assert.DoesNotContain(
            typeof(LocalSilo).Assembly.GetReferencedAssemblies(),
            a => a.Name is "experiments" or "CsvHelper" or "Parquet" || a.Name!.StartsWith("Spectre", StringComparison.Ordinal));

    [Fact]
    public void Kernels_know_no_database_no_grain_and_no_log() =>
        Assert.DoesNotContain(
            typeof(Kernels.BuiltIn).Assembly.GetReferencedAssemblies(),
            a => a.Name!.StartsWith("Orleans", StringComparison.Ordinal) || a.Name.StartsWith("Npgsql", StringComparison.Ordinal)
                || a.Name.StartsWith("Microsoft.Extensions", StringComparison.Ordinal));

    [Fact]
    public void Every_alias_is_unique_ours_and_used()
    {
        string[] aliases = [.. typeof(Aliases).GetFields(BindingFlags.Static | BindingFlags.Public).Select(f => (string)f.GetRawConstantValue()!)];
        string[] used = [.. typeof(ISweepGrain).Assembly.GetTypes()
            .Select(t => t.GetCustomAttribute<AliasAttribute>(false)?.Alias).OfType<string>()];

        Assert.Equal(aliases.Length, aliases.Distinct(StringComparer.Ordinal).Count());
        Assert.All(aliases, a => Assert.StartsWith("experiments.", a, StringComparison.Ordinal));
        Assert.Equal(aliases.Order(StringComparer.Ordinal), used.Where(u => u.StartsWith("experiments.", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Every_grain_method_has_a_name_on_the_wire_and_a_time_limit() =>
        Assert.All(
            new[] { typeof(ISweepGrain), typeof(IShardGrain) }.SelectMany(t => t.GetMethods()),
            m =>
            {
                Assert.NotNull(m.GetCustomAttribute<AliasAttribute>());
                Assert.NotNull(m.GetCustomAttribute<ResponseTimeoutAttribute>());
            });

    private static string[] Ours(Assembly assembly) =>
        [.. assembly.GetReferencedAssemblies().Select(a => a.Name!)
            .Where(n => n.StartsWith("Experiments.", StringComparison.OrdinalIgnoreCase) || n == "experiments")
            .Order(StringComparer.Ordinal)];
}
