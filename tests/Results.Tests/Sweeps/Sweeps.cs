using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Sweeps;

internal static class Sweeps
{
    public static SweepSpec Read(string text) => SweepFile.Parse(text, "test.yaml", AppContext.BaseDirectory, TestCatalog.Catalog);

    public static SweepExpansion Expand(string text) => new(Read(text), TestCatalog.Catalog);

    public static IEnumerable<InstancePlan> All(SweepExpansion expansion)
    {
        for (long i = 0; i < expansion.ProductSize; i++)
        {
            if (expansion.At(i) is InstancePlan plan)
            {
                yield return plan;
            }
        }
    }

    /// <summary>The faults as lines of <c>line:column: message</c>.</summary>
    public static IReadOnlyList<string> Faults(string text)
    {
        SweepFileException ex = Assert.Throws<SweepFileException>(() => Read(text));
        return [.. ex.Faults.Select(f => $"{f.Line}:{f.Column}: {f.Message}")];
    }
}
