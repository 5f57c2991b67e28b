using System.Numerics;
using Experiments.Grains.Running;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;
using static Experiments.Grains.Tests.TestWorkbench;

namespace Experiments.Grains.Tests;

/// <summary>Scale, mask, heads and batch from the sweep file to the outcome, with the kernels of this build.</summary>
public sealed class InstanceAxesTests
{
    private static readonly Catalog Catalog = BuiltInCatalog.Create();

    [Fact]
    public void Heads_and_batch_are_one_trial_whose_answer_is_that_of_all_its_problems_at_any_number_of_threads()
    {
        TrialOutcome[] one = Outcomes("heads: 1", "{kernel: exact, precision: float64}");
        TrialOutcome[] six = Outcomes("heads: 3, batch: 2", "{kernel: exact, precision: [float32, float64], threads: [1, 2, 4]}");

        Assert.Single(one);
        Assert.Equal(6, six.Length);
        Assert.All(six, o => Assert.True(o.Status == TrialStatus.Done, o.Reason));
        Assert.Equal(2, six.Select(o => o.Digest).Distinct().Count());
        Assert.Single(six.Where(o => o.Spec.Precision == "float64").Select(o => o.Digest).Distinct());
        Assert.All(six, o => Assert.Equal(6 * one[0].Flops!.Value, o.Flops!.Value));
        Assert.All(six.Where(o => o.Spec.Precision == "float64"), o => Assert.Equal(0, o.GradientRelativeError));
        Assert.All(six.Where(o => o.Spec.Precision == "float32"), o => Assert.InRange(o.GradientRelativeError!.Value, 1e-12, 1e-4));
        Assert.All(six, o => Assert.InRange(o.Loss!.Value / one[0].Loss!.Value, 4, 8));
        Assert.All(six, o => Assert.NotNull(o.MaxLogit));
    }

    [Fact]
    public void Scale_and_mask_reach_the_kernel_and_its_reference()
    {
        TrialOutcome[] outcomes = Outcomes("scale: [d, sqrt-d], mask: [none, causal]", "{kernel: [exact, reference], precision: float64}");

        Assert.Equal(8, outcomes.Length);
        Assert.All(outcomes, o => Assert.InRange(o.GradientRelativeError!.Value, 0, 1e-10));
        Assert.Equal(8, outcomes.Select(o => o.Digest).Distinct().Count());

        // Nobody's largest logit exceeds B² d over the divisor.
        Assert.All(outcomes, o => Assert.InRange(o.MaxLogit!.Value, 0, o.Instance.Settings["scale"] is "d" ? 1 : 2));
        double exact = outcomes.First(o => o.Instance.Settings["mask"] is "none").Flops!.Value;
        Assert.Equal(exact * 41 / 80, outcomes.First(o => o.Instance.Settings["mask"] is "causal").Flops!.Value, exact * 1e-9);
    }

    [Fact]
    public void A_kernel_that_takes_no_mask_is_refused_where_the_file_stands_and_where_can_leave_it_out()
    {
        SweepFileException refused = Assert.Throws<SweepFileException>(() => Read("mask: [none, causal]", "{kernel: low-rank, degree: 2}"));

        Assert.Contains("mask is causal, and low-rank takes no mask", Assert.Single(refused.Faults).Message, StringComparison.Ordinal);
        SweepSpec spec = Read("mask: [none, causal]", "{kernel: [exact, low-rank], degree: 2, where: mask == none or kernel == exact}");
        Assert.Equal(3, new SweepExpansion(spec, Catalog).Count(TestContext.Current.CancellationToken).Trials);
    }

    [Fact]
    public void A_trial_of_a_mask_that_comes_past_the_plan_fails_with_the_reason()
    {
        InstanceSpec instance = new(
            "small", 8, 2, null, 0, 1, new Dictionary<string, object> { ["mask"] = "causal" }, new Dictionary<string, object>());
        SweepPlan plan = Plan([Trial("low-rank")]) with { At = i => new InstancePlan(i, instance, [Trial("low-rank")]) };
        TrialOutcome outcome = Assert.Single(Run(With(new Fake("low-rank")), plan).Outcomes);

        Assert.Equal(TrialStatus.Failed, outcome.Status);
        Assert.StartsWith("mask is causal, and low-rank takes no mask", outcome.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void What_heads_and_batch_need_is_predicted_and_skipped_before_anything_is_allocated()
    {
        const string Kernel = "{kernel: exact, precision: float64}";
        SweepForecast one = Forecast("heads: 1", Kernel), many = Forecast("heads: 16, batch: 8", Kernel);
        const long Numbers = (5 * 40 * 4) + (4 * 4 * 4);
        Assert.InRange(many.LargestBytes - one.LargestBytes, 127 * 8 * Numbers, (127 * 8 * Numbers) + (128 * 4096));
        Assert.InRange(many.Seconds / one.Seconds, 5, 128.5);

        TrialOutcome skipped = Assert.Single(
            Outcomes("heads: 1024, batch: 1024", Kernel, limits: new Limits { MemoryBytes = 100 << 20 }));
        Assert.Equal(TrialStatus.Skipped, skipped.Status);
        Assert.EndsWith("limit 100 MiB", skipped.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_gradient_is_timed_judged_and_paired_where_a_trial_asks_for_all()
    {
        TrialOutcome[] outcomes = Outcomes("heads: 2, mask: causal", "{kernel: [exact, reference], precision: [float32, float64], gradients: [x, all]}");

        Assert.Equal(8, outcomes.Length);
        Assert.All(outcomes, o => Assert.True(o.Status == TrialStatus.Done, o.Reason));
        Assert.All(outcomes, o => Assert.InRange(o.GradientRelativeError!.Value, 0, o.Spec.Precision == "float64" ? 1e-12 : 1e-4));
        Assert.Equal(8, outcomes.Select(o => o.Digest).Distinct().Count());
        TrialOutcome Of(string kernel, string precision, string gradients) => outcomes.Single(
            o => o.Spec.Kernel == kernel && o.Spec.Precision == precision && (string)o.Spec.Settings["gradients"] == gradients);
        Assert.True(Of("exact", "float32", "all").GradientRelativeError >= Of("exact", "float32", "x").GradientRelativeError);
        Assert.InRange(Of("exact", "float32", "all").Flops!.Value / Of("exact", "float32", "x").Flops!.Value, 1.5, 2);

        // With exact of the same gradients; beside the other one it would be about a half.
        Assert.Equal(1, Of("exact", "float64", "all").SpeedupOverExact);
        Assert.Equal(1, Of("exact", "float64", "x").SpeedupOverExact);
    }

    [Fact]
    public void Every_gradient_of_low_rank_is_judged_by_its_error_where_a_trial_asks_for_all()
    {
        TrialOutcome[] outcomes = Outcomes("heads: 2", "{kernel: exact, gradients: all}, {kernel: low-rank, degree: [3, 8], gradients: [x, all]}");

        Assert.Equal(5, outcomes.Length);
        Assert.All(outcomes, o => Assert.True(o.Status == TrialStatus.Done, o.Reason));
        TrialOutcome Of(long degree, string gradients) => outcomes.Single(
            o => o.Spec.Kernel == "low-rank" && (long)o.Spec.Settings["degree"] == degree && (string)o.Spec.Settings["gradients"] == gradients);
        foreach (long degree in (long[])[3, 8])
        {
            Assert.True(Of(degree, "all").GradientRelativeError >= Of(degree, "x").GradientRelativeError);
            Assert.InRange(Of(degree, "all").Flops!.Value / Of(degree, "x").Flops!.Value, 1.9, 2);

            // The exact call gives every gradient: one that gives dX alone has nothing to be paired with.
            Assert.NotNull(Of(degree, "all").SpeedupOverExact);
            Assert.Null(Of(degree, "x").SpeedupOverExact);
        }

        Assert.InRange(Of(8, "all").GradientRelativeError!.Value, 1e-12, 1e-6);
        Assert.True(Of(3, "all").GradientRelativeError > 100 * Of(8, "all").GradientRelativeError);
    }

    [Fact]
    public void A_kernel_that_gives_dX_only_is_refused_gradients_all_where_the_file_stands()
    {
        SweepFileException refused = Assert.Throws<SweepFileException>(() => Read("", "{kernel: nystrom, landmarks: 2, gradients: all}"));

        Assert.Contains("gradients is all, and nystrom gives no dQ, dK and dV", Assert.Single(refused.Faults).Message, StringComparison.Ordinal);
        Assert.Equal(1, new SweepExpansion(Read("", "{kernel: nystrom, landmarks: 2, gradients: x}"), Catalog).Count(TestContext.Current.CancellationToken).Trials);
    }

    [Theory]
    [InlineData("dQ")]
    [InlineData("dK")]
    [InlineData("dV")]
    public void A_gradient_that_is_a_hundredth_off_is_the_error_of_a_trial_that_asks_for_all(string which)
    {
        Workbench workbench = new([new Skewed(which), BuiltIn.Kernel("exact")], [new Small()]);
        TrialOutcome[] outcomes = [.. Run(workbench, Plan(
            [Trial("skewed", settings: ("gradients", "all")), Trial("skewed", settings: ("gradients", "x")), Trial("exact")])).Outcomes];

        Assert.Equal(0.01, outcomes[0].GradientRelativeError!.Value, 1e-9);
        Assert.InRange(outcomes[1].GradientRelativeError!.Value, 0, 1e-12);
    }

    [Fact]
    public void A_gradient_that_a_kernel_promised_and_left_out_fails_the_trial()
    {
        Workbench workbench = With(new Fake("forgetful") { GivesAll = true });
        TrialOutcome outcome = Run(workbench, Plan([Trial("forgetful", settings: ("gradients", "all")), Trial("exact")])).Outcomes[0];

        Assert.Equal(TrialStatus.Failed, outcome.Status);
        Assert.Equal("dQ is not finite: it[0, 0] is NaN", outcome.Reason);
    }

    [Fact]
    public void An_instance_that_names_none_of_the_axes_has_the_key_that_it_always_had()
    {
        InstanceSpec instance = Expand("", "{kernel: exact}").At(0)!.Instance;

        Assert.Empty(instance.Settings);
        Assert.Equal(1, instance.Parts);
        Assert.Equal("instance/1\nfamily=uniform\nn=40\nd=4\nbound=1\nrepeat=0\nseed=5", Identity.Canonical(instance));
        Assert.Equal("uniform n=40 d=4 bound=1 heads=2 mask=causal repeat=0", Describe.Instance(
            Expand("heads: 2, mask: causal", "{kernel: exact}").At(0)!.Instance));
    }

    /// <summary>Right but for one gradient.</summary>
    private sealed class Skewed(string which) : IGradientKernel
    {
        public string Name => "skewed";

        public string Summary => "For tests.";

        public IReadOnlyList<Axis> Axes => [];

        public bool GivesAll => true;

        public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) => new(1000, 1000, null);

        public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            BuiltIn.Kernel("reference").Compute(problem, Settings.None, output, context);
            T[] off = (which switch { "dQ" => output.DQ, "dK" => output.DK, _ => output.DV }) ?? [];
            for (int i = 0; i < off.Length; i++)
            {
                off[i] *= T.CreateTruncating(1.01);
            }
        }
    }

    private static SweepSpec Read(string axes, string kernel) => SweepFile.Parse(
        $$"""
        name: axes
        seed: 5
        instances: {family: uniform, n: 40, d: 4, bound: 1{{(axes.Length > 0 ? ", " + axes : "")}}}
        kernels: [{{kernel}}]
        measure: {rounds: 1, min_time: 0, max_noise: 0}
        """,
        "axes.yaml", AppContext.BaseDirectory, Catalog);

    private static SweepExpansion Expand(string axes, string kernel) => new(Read(axes, kernel), Catalog);

    private static SweepForecast Forecast(string axes, string kernel) =>
        Expand(axes, kernel).Forecast(new CostModel(), TestContext.Current.CancellationToken);

    private static TrialOutcome[] Outcomes(string axes, string kernel, Limits? limits = null)
    {
        SweepSpec spec = Read(axes, kernel);
        SweepExpansion expansion = new(spec, Catalog);
        SweepPlan plan = new(1, spec.Measure, limits ?? spec.Limits, expansion.At);
        return [.. Run(Workbench.BuiltIn, plan, (int)expansion.ProductSize).Outcomes];
    }
}
