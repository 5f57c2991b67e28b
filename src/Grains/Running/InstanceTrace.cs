using System.Diagnostics;
using Experiments.Grains.Telemetry;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>When what happened on an instance, written as spans after it has ended.</summary>
/// <remarks>
/// Only then is it known what was long enough for a span (a millisecond), and a sweep of tiny trials pays a few timestamps an
/// instance instead of a hundred thousand spans. The first call of each trial has a span with the kernel and its phases below
/// it; the paired rounds, whose samples are stored as numbers, share one.
/// </remarks>
internal sealed class InstanceTrace(long start, DateTimeOffset startedAt)
{
    public long DrawEnd { get; set; }

    public long ReferenceStart { get; set; }

    public long ReferenceEnd { get; set; }

    public bool ReferenceFound { get; set; }

    public long RoundsStart { get; set; }

    public long RoundsEnd { get; set; }

    public int Rounds { get; set; }

    /// <summary>A stopwatch time on the calendar.</summary>
    public DateTimeOffset At(long ticks) => startedAt + Stopwatch.GetElapsedTime(start, ticks);

    public void Write(ShardRun run, InstancePlan plan, List<TrialRun> trials, long end)
    {
        if (!IsLong(start, end) || !run.IsTraced)
        {
            return;
        }

        using Activity? instance = Begin("instance", run.Parent, start);
        if (instance is null)
        {
            return;
        }

        Tag(instance, run);
        instance.SetTag("experiments.instance", plan.Index);
        instance.SetTag("experiments.instance.text", Describe.Instance(plan.Instance));
        instance.SetEndTime(At(end).UtcDateTime);
        Child(run, instance, "draw", start, DrawEnd)?.Dispose();
        using (Activity? reference = Child(run, instance, "reference", ReferenceStart, ReferenceEnd))
        {
            reference?.SetTag("experiments.reference.found", ReferenceFound);
        }

        foreach (TrialRun trial in trials)
        {
            WriteTrial(run, instance, trial);
        }

        using Activity? rounds = Child(run, instance, "rounds", RoundsStart, RoundsEnd);
        rounds?.SetTag("experiments.rounds", Rounds);
    }

    private static bool IsLong(long from, long to) =>
        (to - from) >= ShardRunner.ShortestSpanSeconds * Stopwatch.Frequency;

    private static void Tag(Activity activity, ShardRun run)
    {
        activity.SetTag("experiments.sweep.id", run.Lease.SweepId);
        activity.SetTag("experiments.shard", run.Lease.Shard);
    }

    private void WriteTrial(ShardRun run, Activity instance, TrialRun trial)
    {
        using Activity? span = Child(run, instance, "trial", trial.FirstStart, trial.FirstEnd);
        if (span is null)
        {
            return;
        }

        TrialOutcome outcome = trial.Outcome;
        span.SetTag("experiments.trial", outcome.Trial);
        span.SetTag("experiments.trial.text", outcome.Spec.ToString());
        span.SetTag("experiments.trial.attempts", outcome.Attempts);
        if (outcome.Status == TrialStatus.Failed)
        {
            span.SetStatus(ActivityStatusCode.Error, outcome.Reason);
        }

        if (System.Buffers.Binary.BinaryPrimitives.TryReadUInt64BigEndian(
            Convert.FromHexString(span.SpanId.ToHexString()), out ulong id))
        {
            outcome.SpanId = id;
        }

        using Activity? kernel = Child(run, span, $"kernel {outcome.Spec.Kernel}", trial.FirstStart, trial.FirstEnd);
        if (kernel is null)
        {
            return;
        }

        kernel.SetTag("experiments.trial", outcome.Trial);
        kernel.SetTag("experiments.precision", outcome.Spec.Precision);
        kernel.SetTag("experiments.threads", outcome.Spec.Threads);
        foreach ((string name, object value) in outcome.Spec.Settings)
        {
            kernel.SetTag($"experiments.kernel.{name}", value);
        }

        foreach (Phase phase in trial.Phases ?? [])
        {
            using Activity? part = Child(run, kernel, phase.Name, phase.Start, phase.End);
            part?.SetTag("experiments.trial", outcome.Trial);
        }
    }

    private Activity? Child(ShardRun run, Activity parent, string name, long from, long to)
    {
        if (from == 0 || !IsLong(from, to) || Begin(name, parent.Context, from) is not Activity child)
        {
            return null;
        }

        Tag(child, run);
        child.SetEndTime(At(to).UtcDateTime);
        return child;
    }

    private Activity? Begin(string name, ActivityContext parent, long from) => ExperimentsTelemetry.Source.StartActivity(
        name, ActivityKind.Internal, parent, tags: null, links: null, startTime: At(from));
}
