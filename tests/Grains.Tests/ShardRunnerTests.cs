using Experiments.Grains.Running;
using Experiments.Kernels.AttentionGradient;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;
using static Experiments.Grains.Tests.TestWorkbench;

namespace Experiments.Grains.Tests;

public sealed class ShardRunnerTests
{
    [Theory]
    [InlineData(null, 3e9)]
    [InlineData(8L << 30, 4e9)]
    public void What_this_machine_has_no_room_for_is_offered_once_and_skipped_where_nobody_takes_it(long? named, double bytes)
    {
        Workbench workbench = TestWorkbench.With(
            new TestWorkbench.Fake("small"), new TestWorkbench.Fake("large") { StateBytes = bytes }, new TestWorkbench.Fake("larger") { StateBytes = 7e9 },
            new TestWorkbench.Fake("beyond") { StateBytes = 1e12 });
        SweepPlan plan = TestWorkbench.Plan(
            [.. new[] { "beyond", "larger", "small", "large" }.Select(k => TestWorkbench.Trial(k))], limits: new Limits { MemoryBytes = named });
        List<double> offered = [];
        Ran result = Offer(free =>
        {
            offered.Add(free);
            return false;
        });
        double share = named is null ? 0.75 : 0.95;

        // The sweep's own limit is nobody's room. What is larger than what nobody had is not offered again, and the second instance offers nothing.
        double[] expected = named is null ? [1e12, 7e9, bytes] : [7e9, bytes];
        Assert.Equal(expected.Length, offered.Count);
        Assert.All(expected.Zip(offered), o => Assert.InRange(o.Second * share, o.First, o.First + 100_000));
        Assert.Equal(2, result.Outcomes.Count(o => o.Status == TrialStatus.Done));
        Assert.Equal(6, result.Outcomes.Count(o => o.Status == TrialStatus.Skipped));
        Assert.Throws<ShardHandedOnException>(() => Offer(free => free < 8e9));

        Ran Offer(Func<double, bool> taken)
        {
            using ComputePool pool = new(1);
            using MemoryBudget memory = new(3.5e9);
            OutcomeList outcomes = [];
            ShardRun run = new(plan, new ShardLease(1, 0, 1, 0, 2, 0, 8, 0), new HashSet<long>(), outcomes, CancellationToken.None)
            {
                HandOn = (free, cores) => taken(free!.Value),
            };
            ShardRunner runner = new(workbench, memory, new TestWorkbench.NoReferences(), new TestWorkbench.InPlace(), TimeProvider.System);
            return new Ran(outcomes, runner.Run(run, pool.Lanes[0]));
        }
    }

    [Fact]
    public void A_degree_that_the_kernel_chose_is_in_the_row_with_its_own_rank()
    {
        TrialSpec automatic = Trial("low-rank", "float64", 1, ("degree", "auto"), ("tolerance", 1e-4));
        TrialOutcome outcome = Run(With(new LowRankGradient()), Plan([automatic])).Outcomes[0];
        Assert.Equal(TrialStatus.Done, outcome.Status);
        Assert.InRange(outcome.FittedDegree!.Value, 1, 23);
        Assert.True(outcome.PredictedExpError <= 1e-4);

        // d = 2: the rank is C(2 + g, 2), where the prediction without a bound was that of degree 24.
        int degree = outcome.FittedDegree.Value;
        Assert.Equal((degree + 1) * (degree + 2) / 2, outcome.Rank);
    }

    [Fact]
    public void Every_trial_has_one_outcome_under_its_own_number_in_order()
    {
        Ran result = Run(With(new Fake("low-rank")), Plan([Trial("exact"), Trial("low-rank"), Trial("low-rank", "float32")]), 4);

        Assert.Equal(Enumerable.Range(100, 12).Select(i => (long)i), result.Outcomes.Select(o => o.Trial));
        Assert.All(result.Outcomes, o => Assert.Equal(TrialStatus.Done, o.Status));
        Assert.All(result.Outcomes, o => Assert.Equal(3, o.Samples!.Length));
        Assert.All(result.Outcomes, o => Assert.Equal((o.Trial - 100) / 3, o.InstanceIndex));
        Assert.All(result.Outcomes, o => Assert.NotNull(o.ProjectSeconds));
        Assert.All(result.Outcomes, o => Assert.NotNull(o.ReduceSeconds));
    }

    [Fact]
    public void A_lease_that_counts_other_trials_than_the_expansion_is_refused()
    {
        InvalidOperationException fault = Assert.Throws<InvalidOperationException>(
            () => Run(With(), Plan([Trial("exact")]), 2, trials: 2));

        Assert.Contains("planned with 4 trials and expands to 2", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Errors_are_measured_against_the_exact_kernel_in_double()
    {
        Ran result = Run(With(new Fake("low-rank") { Off = 0.25, ExpError = 1e-3 }), Plan([Trial("low-rank"), Trial("exact")]));
        TrialOutcome off = result.Outcomes[0];

        Assert.Equal(0.25, off.GradientAbsoluteError!.Value, 12);
        Assert.True(off.GradientRelativeError > 0);
        Assert.Equal(0, off.LossRelativeError);
        Assert.Equal(0, off.ForwardRelativeError);
        Assert.True(off.TheoremBound > 0);
        Assert.Equal(off.TheoremBound!.Value / 0.25, off.TheoremSlack!.Value, 6);
        Assert.Equal(0, result.Outcomes[1].GradientAbsoluteError);
        Assert.Null(result.Outcomes[1].TheoremBound);
    }

    [Fact]
    public void Equal_bits_have_equal_digests_and_one_changed_bit_has_another()
    {
        Ran a = Run(With(new Fake("low-rank"), new Fake("other") { Off = 1e-15 }), Plan([Trial("exact"), Trial("low-rank"), Trial("other")]));
        Ran b = Run(With(), Plan([Trial("exact", threads: 2)]));

        Assert.Equal(a.Outcomes[0].Digest, a.Outcomes[1].Digest);
        Assert.Equal(a.Outcomes[0].Digest, b.Outcomes[0].Digest);
        Assert.NotEqual(a.Outcomes[0].Digest, a.Outcomes[2].Digest);
    }

    [Fact]
    public void A_trial_that_needs_more_than_its_limit_is_skipped_before_anything_is_allocated_for_it()
    {
        Fake greedy = new("low-rank", (_, _) => Assert.Fail("it was called")) { StateBytes = 34.0 * (1L << 30) };
        Ran result = Run(With(greedy), Plan([Trial("low-rank"), Trial("exact")], limits: new Limits { MemoryBytes = 2L << 30 }));

        Assert.Equal(TrialStatus.Skipped, result.Outcomes[0].Status);
        Assert.Equal("needs 34 GiB, limit 2 GiB", result.Outcomes[0].Reason);
        Assert.Equal(TrialStatus.Done, result.Outcomes[1].Status);
    }

    [Fact]
    public void An_instance_that_needs_more_than_the_limit_is_never_drawn()
    {
        Ran result = Run(With(), Plan([Trial("exact")], limits: new Limits { MemoryBytes = 100 << 20 }, n: 1 << 25));

        Assert.Equal(TrialStatus.Skipped, result.Outcomes[0].Status);
        Assert.StartsWith("needs 3 GiB, limit 100 MiB", result.Outcomes[0].Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_failure_fails_its_trial_at_once_with_its_reason_and_the_rest_goes_on()
    {
        Fake refusing = new("low-rank", (_, _) => throw new KernelFailure("row 3 sums to -0.1"));
        Ran result = Run(With(refusing), Plan([Trial("low-rank"), Trial("exact")]), 2);

        Assert.All(result.Outcomes.Where(o => o.Spec.Kernel == "low-rank"), o =>
        {
            Assert.Equal(TrialStatus.Failed, o.Status);
            Assert.Equal("row 3 sums to -0.1", o.Reason);
            Assert.Equal(1, o.Attempts);
            Assert.Null(o.Samples);
        });
        Assert.All(result.Outcomes.Where(o => o.Spec.Kernel == "exact"), o => Assert.Equal(TrialStatus.Done, o.Status));
    }

    [Fact]
    public void A_kernel_that_throws_is_tried_again_and_the_attempts_are_counted()
    {
        int calls = 0;
        Fake shaky = new("low-rank", (_, c) =>
        {
            // The warm-up swallows nothing that counts: only calls that are told of phases are first calls.
            if (c.Phase is not null && ++calls <= 2)
            {
                throw new InvalidOperationException("shaky");
            }
        });
        TrialOutcome outcome = Run(With(shaky), Plan([Trial("low-rank")])).Outcomes[0];

        Assert.Equal(TrialStatus.Done, outcome.Status);
        Assert.Equal(3, outcome.Attempts);
    }

    [Fact]
    public void A_kernel_that_keeps_throwing_fails_after_its_retries()
    {
        Fake broken = new("low-rank", (_, _) => throw new InvalidOperationException("broken\nbadly"));
        TrialOutcome outcome = Run(With(broken), Plan([Trial("low-rank")], limits: new Limits { Retries = 2, MemoryBytes = 1 << 30 })).Outcomes[0];

        Assert.Equal(TrialStatus.Failed, outcome.Status);
        Assert.Equal(3, outcome.Attempts);
        Assert.Equal("InvalidOperationException: broken badly", outcome.Reason);
    }

    [Fact]
    public void A_gradient_that_was_not_written_or_is_not_finite_fails_the_trial()
    {
        Ran result = Run(
            With(new Fake("low-rank") { WritesGradient = false }, new Fake("other") { Off = double.PositiveInfinity }),
            Plan([Trial("low-rank"), Trial("other")]));

        Assert.Equal("the gradient is not finite: dX[0, 0] is NaN", result.Outcomes[0].Reason);
        Assert.Equal(TrialStatus.Failed, result.Outcomes[1].Status);
    }

    [Fact]
    public void Row_sums_that_are_not_positive_fail_the_trial() =>
        Assert.Equal(
            "2 of 8 row sums are not positive",
            Run(With(new Fake("low-rank") { NonPositive = 2 }), Plan([Trial("low-rank")])).Outcomes[0].Reason);

    [Fact]
    public void Inputs_that_are_not_finite_fail_the_instances_trials()
    {
        Workbench bench = new([new Fake("exact")], [new Small(poison: true)]);

        Assert.Equal("the instance cannot be used: a1[1, 1] is NaN", Run(bench, Plan([Trial("exact")])).Outcomes[0].Reason);
    }

    [Fact]
    public void A_trial_that_takes_longer_than_its_limit_fails_and_the_next_one_is_not_touched()
    {
        Fake slow = new("low-rank", (_, c) =>
        {
            c.Cancellation.WaitHandle.WaitOne(TimeSpan.FromMinutes(1));
            c.Cancellation.ThrowIfCancellationRequested();
        });
        Ran result = Run(
            With(slow), Plan([Trial("low-rank"), Trial("exact")], limits: new Limits { TrialTimeout = TimeSpan.FromMilliseconds(50), MemoryBytes = 1 << 30 }));

        Assert.Equal("timed out after 50 ms (limits.trial_timeout)", result.Outcomes[0].Reason);
        Assert.Equal(TrialStatus.Done, result.Outcomes[1].Status);
    }

    [Fact]
    public void A_reference_that_fails_leaves_the_errors_unknown_and_says_why()
    {
        Ran result = Run(
            With(new Fake("exact", (_, _) => throw new KernelFailure("overflow")), new Fake("low-rank")), Plan([Trial("low-rank")]));

        Assert.Equal(TrialStatus.Done, result.Outcomes[0].Status);
        Assert.Null(result.Outcomes[0].GradientAbsoluteError);
        Assert.Equal("no reference: overflow", result.Outcomes[0].Reason);
    }

    [Fact]
    public void The_reference_is_computed_once_an_instance_and_not_at_all_when_the_library_has_it()
    {
        Fake exact = new("exact", (_, _) => { }) { Flops = 1e9 };
        Fake other = new("low-rank");
        Run(With(exact, other), Plan([Trial("low-rank"), Trial("low-rank", "float32")]), 3);
        Assert.Equal(3, exact.Calls);

        Run(With(exact, other), Plan([Trial("low-rank")]), 3, references: new Shelf());
        Assert.Equal(3, exact.Calls);
    }

    [Fact]
    public void A_reference_on_rows_gives_estimates_and_one_on_all_rows_what_the_whole_gives()
    {
        TrialSpec[] trials = [Trial("exact"), Trial("low-rank", "float64", 1, ("degree", 2L)), Trial("low-rank", "float32", 1, ("degree", 2L))];
        Workbench bench = With(new ExactGradient(), new LowRankGradient());
        IReadOnlyList<TrialOutcome> whole = Run(bench, Plan(trials, n: 90)).Outcomes;
        IReadOnlyList<TrialOutcome> all = Run(bench, Plan(trials, Sampled(90), n: 90)).Outcomes;
        IReadOnlyList<TrialOutcome> some = Run(bench, Plan(trials, Sampled(60), n: 90)).Outcomes;
        for (int i = 0; i < trials.Length; i++)
        {
            Assert.Equal(whole[i].GradientAbsoluteError, all[i].GradientAbsoluteError);
            Assert.Equal(whole[i].GradientRelativeError, all[i].GradientRelativeError);
            Assert.Equal(whole[i].LossRelativeError, all[i].LossRelativeError);
            Assert.Null(all[i].ReferenceRows);
            Assert.Null(all[i].GradientErrorStandardError);
            Assert.Equal(TrialStatus.Done, some[i].Status);
            Assert.Null(some[i].Reason);
            Assert.Equal(60, some[i].ReferenceRows);
            Assert.Equal(whole[i].Digest, some[i].Digest);
            Assert.Equal(
                whole[i].GradientAbsoluteError!.Value, some[i].GradientAbsoluteError!.Value, (5 * some[i].GradientErrorStandardError!.Value) + 1e-12);
            Assert.Equal(whole[i].LossRelativeError!.Value, some[i].LossRelativeError!.Value, (5 * some[i].LossErrorStandardError!.Value) + 1e-12);
            Assert.InRange(some[i].ForwardRelativeError!.Value, 0, 1.5 * whole[i].ForwardRelativeError!.Value);
        }

        Assert.True(some[1].GradientErrorStandardError > 0);
        Assert.True(some[1].TheoremBound >= whole[1].TheoremBound);
        Assert.Equal(whole[1].MaxLogit!.Value, some[1].MaxLogit!.Value, 0.5);
    }

    [Fact]
    public void A_kernel_without_dQ_has_no_estimate_of_the_gradient_and_says_so()
    {
        TrialOutcome outcome = Run(With(new Fake("low-rank")), Plan([Trial("low-rank")], Sampled(20), n: 40)).Outcomes[0];
        Assert.Equal(TrialStatus.Done, outcome.Status);
        Assert.Null(outcome.GradientAbsoluteError);
        Assert.NotNull(outcome.ForwardRelativeError);
        Assert.StartsWith("no gradient error: low-rank does not give dQ", outcome.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_the_untimed_call_is_asked_for_dQ_and_only_where_rows_are_sampled()
    {
        List<(bool Timed, bool DQ)> calls = [];
        Fake kernel = new("low-rank") { Called = (context, dQ) => calls.Add((context.Phase is null, dQ)) };
        Run(With(kernel), Plan([Trial("low-rank")], Sampled(20), n: 40));
        Assert.All(calls, c => Assert.Equal(!c.Timed, c.DQ));
        Assert.Contains(calls, c => c.DQ);
        Assert.Contains(calls, c => c.Timed);
        calls.Clear();
        Run(With(kernel), Plan([Trial("low-rank")], Sampled(40), n: 40));
        Assert.All(calls, c => Assert.False(c.DQ));
    }

    [Fact]
    public void A_stored_reference_on_rows_is_looked_for_under_its_own_key_and_a_whole_one_never_taken_for_it()
    {
        SweepPlan plan = Plan([Trial("low-rank", "float64", 1, ("degree", 2L))], Sampled(2000), n: 4000);
        Workbench bench = With(new LowRankGradient());
        Recorded shelf = new();
        TrialOutcome first = Run(bench, plan, references: shelf).Outcomes[0];
        Assert.Equal(plan.Measure.ReferenceKeyOf(Instance(0, 4000)), Assert.Single(shelf.Asked));
        Assert.NotEqual(Instance(0, 4000).Key, shelf.Asked[0]);

        // What stands there of another kind is not believed, and computed anew.
        shelf.Answer = new(shelf.Asked[0], new double[4000], new double[4000], 1, 1, 1, 1) { Rows = null };
        Assert.Equal(first.GradientAbsoluteError, Run(bench, plan, references: shelf).Outcomes[0].GradientAbsoluteError);
        shelf.Answer = shelf.Answer with { Rows = 2000 };
        Assert.NotEqual(first.GradientAbsoluteError, Run(bench, plan, references: shelf).Outcomes[0].GradientAbsoluteError);
    }

    [Fact]
    public void DQ_is_counted_in_what_a_trial_needs()
    {
        // Inputs of 64 MiB, F of 16, state of 800, more than the exact rows take; and with a reference on rows, dQ of 16.
        string? Needs(Measure measure) => Run(
            With(new Fake("low-rank") { StateBytes = 800 << 20 }),
            Plan([Trial("low-rank")], measure, new Limits { MemoryBytes = 1 << 20 }, 1 << 20)).Outcomes[0].Reason;

        Assert.Equal("needs 880 MiB, limit 1 MiB", Needs(Sampled(16) with { Reference = ReferenceMode.None }));
        Assert.Equal("needs 896 MiB, limit 1 MiB", Needs(Sampled(16)));
    }

    private static Measure Sampled(int rows) => new() { Rounds = 3, MinTime = TimeSpan.Zero, MaxNoise = 0, ReferenceRows = rows };

    private sealed class Recorded : IReferenceLibrary
    {
        public List<Guid> Asked { get; } = [];

        public ReferenceRecord? Answer { get; set; }

        public ReferenceRecord? Find(Guid instanceKey, CancellationToken cancellation)
        {
            Asked.Add(instanceKey);
            return Answer;
        }
    }

    [Fact]
    public void Speed_up_is_exacts_time_over_ones_own_in_the_same_precision_or_unknown()
    {
        Ran result = Run(With(new Fake("low-rank")), Plan([Trial("exact"), Trial("low-rank"), Trial("low-rank", "float32")]));

        Assert.Equal(1, result.Outcomes[0].SpeedupOverExact);
        double[] ratios = [.. result.Outcomes[0].Samples!.Zip(result.Outcomes[1].Samples!, (e, t) => e / t)];
        Assert.Equal(PairedRounds.Median(ratios), result.Outcomes[1].SpeedupOverExact);
        Assert.Null(result.Outcomes[2].SpeedupOverExact);
    }

    [Fact]
    public void Stored_trials_are_not_run_again_except_an_exact_one_to_be_compared_with()
    {
        Fake stored = new("other", (_, _) => Assert.Fail("it was called"));
        Ran result = Run(
            With(stored, new Fake("low-rank")), Plan([Trial("exact"), Trial("other"), Trial("low-rank")]),
            stored: new HashSet<long> { 100, 101 });

        TrialOutcome only = Assert.Single(result.Outcomes);
        Assert.Equal(102, only.Trial);
        Assert.NotNull(only.SpeedupOverExact);
    }

    [Fact]
    public void A_cancelled_run_leaves_by_exception_and_has_no_outcomes()
    {
        using CancellationTokenSource cancel = new();
        Fake kernel = new("low-rank", (_, c) =>
        {
            cancel.Cancel();
            c.Cancellation.ThrowIfCancellationRequested();
        });
        using ComputePool pool = new(1);
        using MemoryBudget memory = new(1L << 32);
        ShardRun run = new(Plan([Trial("low-rank")]), new ShardLease(1, 0, 1, 0, 1, 0, 1, 0), new HashSet<long>(), new OutcomeList(), cancel.Token);
        ShardRunner runner = new(With(kernel), memory, new NoReferences(), new InPlace(), TimeProvider.System);

        Assert.ThrowsAny<OperationCanceledException>(() => runner.Run(run, pool.Lanes[0]));
        Assert.Equal(0, run.Done + run.Failed + run.Skipped);
    }

    private sealed class Shelf : IReferenceLibrary
    {
        public ReferenceRecord? Find(Guid instanceKey, CancellationToken cancellation) =>
            new(instanceKey, new double[4], new double[16], 1, 1, 1, 1);
    }
}
