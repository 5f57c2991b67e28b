using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using static Experiments.Grains.Tests.TestWorkbench;

namespace Experiments.Grains.Tests;

/// <summary>What a kernel or a family of somebody's own may not say of itself.</summary>
public sealed class BuiltInCatalogTests
{
    [Fact]
    public void An_axis_of_files_is_of_names_that_only_a_sweep_gives()
    {
        foreach (Axis axis in (Axis[])[
            new("table", AxisKind.Integer, "A file by its number.") { IsFile = true },
            new("table", AxisKind.Choice, "A file.", Default: "a.csv") { IsFile = true },
            new("table", AxisKind.Choice, "A file.", Choices: ["a.csv", "b.csv"]) { IsFile = true }])
        {
            ArgumentException fault = Assert.Throws<ArgumentException>(() => CatalogOf(new Small { Axes = [axis] }));
            Assert.StartsWith("The family small has an axis 'table' of files", fault.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_family_has_axes_of_files_and_a_kernel_has_none()
    {
        Axis axis = new("table", AxisKind.Choice, "A file.") { IsFile = true };
        Assert.Contains(CatalogOf(new Small { Axes = [axis] }).Families.Single(f => f.Name == "small").Axes, a => a is { Name: "table", IsFile: true });
        ArgumentException fault = Assert.Throws<ArgumentException>(() => CatalogOf(new Small(), new Fake("mine") { Axes = [axis] }));
        Assert.Equal("The kernel mine has an axis 'table' of files, which only families read. Leave IsFile out.", fault.Message);
    }

    [Fact]
    public void A_check_that_breaks_is_told_by_its_familys_name()
    {
        Func<Results.Sweeps.InstanceSpec, string?> refuse = CatalogOf(new Broken()).Families.Single(f => f.Name == "broken").Refuse!;
        Assert.Equal("the family broken could not check it: InvalidOperationException: boom", refuse(Instance()));
    }

    /// <summary>A degree that the kernel chooses grows with the bound, and with it the rank that a filter asks about.</summary>
    [Theory]
    [InlineData("degree: auto, tolerance: 1e-2")]
    [InlineData("degree: [3, auto], tolerance: 1e-2")]
    public void A_filter_by_what_is_predicted_keeps_the_same_trials_in_whatever_order_the_bounds_are(string degree)
    {
        long apart = Trials("[0.5]") + Trials("[1]") + Trials("[2]");
        Assert.NotEqual(3 * Trials("[1]"), apart);
        Assert.Equal(apart, Trials("[0.5, 1, 2]"));
        Assert.Equal(apart, Trials("[2, 0.5, 1]"));

        long scaled = Trials("[1], scale: [d, sqrt-d]");
        Assert.NotEqual(2 * Trials("[1]"), scaled);
        Assert.Equal(scaled, Trials("[1], scale: [sqrt-d, d]"));

        long Trials(string bounds)
        {
            Results.Sweeps.Catalog catalog = BuiltInCatalog.Create(Workbench.BuiltIn);
            return new Results.Sweeps.SweepExpansion(
                Results.Sweeps.SweepFile.Parse(
                    $$"""
                    name: filtered
                    instances: {family: uniform, n: [64, 128], d: 8, bound: {{bounds}}}
                    kernels: [{kernel: exact}, {kernel: low-rank, {{degree}}, where: rank <= 1300}]
                    """, "filtered.yaml", ".", catalog), catalog).Count(TestContext.Current.CancellationToken).Trials;
        }
    }

    private sealed class Broken : ICheckedFamily
    {
        public string Name => "broken";

        public string Summary => "For tests.";

        public IReadOnlyList<Axis> Axes => [];

        public bool NeedsBound => false;

        public void Check(InstanceRequest request) => throw new InvalidOperationException("boom");

        public AttentionProblem<double> Draw(InstanceRequest request) => throw new InvalidOperationException("boom");
    }

    private static Results.Sweeps.Catalog CatalogOf(IInstanceFamily family, params IGradientKernel[] kernels) =>
        BuiltInCatalog.Create(new Workbench([new Fake("exact"), .. kernels], [family]));
}
