using System.Diagnostics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>One trial while its instance is on a lane: how to call it, what it has used, what came out.</summary>
internal sealed class TrialRun(
    ShardRun run, LaneScratch scratch, TrialOutcome outcome, Configuration configuration, int place, bool companion) : ITimedTrial
{
    private AttentionProblem<float>[]? _single;
    private AttentionProblem<double>[]? _double;
    private bool _resting;

    public TrialOutcome Outcome { get; } = outcome;

    public TrialSpec Spec => Outcome.Spec;

    public Configuration Configuration { get; } = configuration;

    /// <summary>Runs beside the others only to be compared with; its outcome is stored already.</summary>
    public bool Companion { get; } = companion;

    /// <summary>What the instance asks of a call.</summary>
    public CallShape Shape { get; } = BuiltInCatalog.ShapeOf(outcome.Instance);

    /// <summary>Whether the untimed call is asked for dQ, from which errors are estimated where the reference is of a sample of rows.</summary>
    public bool AsksForDQ { get; } = run.Plan.Measure.RowsOf(outcome.Instance) is not null;

    public KernelCost Cost { get; set; }

    public bool IsSingle => Configuration.IsSingle;

    /// <summary>Neither failed nor skipped so far.</summary>
    public bool Alive => Outcome.Status == TrialStatus.Done;

    public bool Continues => Alive && !_resting;

    public double EstimatedSeconds { get; private set; }

    public List<double> Samples { get; } = new(run.Plan.Measure.Rounds);

    /// <summary>Stopwatch ticks of the untimed call, for its span.</summary>
    public long FirstStart { get; private set; }

    public long FirstEnd { get; private set; }

    /// <summary>The untimed call's phases, kept only when it was long enough for spans.</summary>
    public Phase[]? Phases { get; private set; }

    /// <summary>Ticks used up of the trial's time limit.</summary>
    private long _spent;

    public void Use(AttentionProblem<double>[] problem) => _double = problem;

    public void Use(AttentionProblem<float>[] problem) => _single = problem;

    public void Fail(string reason)
    {
        Outcome.Status = TrialStatus.Failed;
        Outcome.Reason = reason;
    }

    public void Skip(string reason)
    {
        Outcome.Status = TrialStatus.Skipped;
        Outcome.Reason = reason;
    }

    /// <summary>Makes the untimed call, from which errors, digest, diagnostics and phases are taken; false when it failed.</summary>
    public bool CallOnce()
    {
        using Pinning.Pinned pinned = Pin();
        while (Alive)
        {
            scratch.BeginPhases();
            Arm();
            Prepare();
            FirstStart = Stopwatch.GetTimestamp();
            Verdict verdict = Try(CallKind.Judged, 1);
            FirstEnd = Stopwatch.GetTimestamp();
            scratch.EndPhases(FirstEnd);
            _spent += FirstEnd - FirstStart;
            EstimatedSeconds = (FirstEnd - FirstStart) / (double)Stopwatch.Frequency;
            if (verdict != Verdict.Again)
            {
                if (EstimatedSeconds >= ShardRunner.ShortestSpanSeconds)
                {
                    Phases = [.. scratch.Phases];
                }

                return verdict == Verdict.Good;
            }
        }

        return false;
    }

    public double TakeSample(int calls)
    {
        // Outside of what is timed: moving a thread costs microseconds.
        using Pinning.Pinned pinned = Pin();
        while (Alive)
        {
            double left = run.Plan.Limits.TrialTimeout.TotalSeconds - Seconds(_spent);
            if (Samples.Count > 0 && EstimatedSeconds > left)
            {
                // It has its samples, fewer than asked; a slow trial is not a failed one.
                _resting = true;
                return double.NaN;
            }

            if (calls > 1 && EstimatedSeconds > 0)
            {
                calls = (int)Math.Clamp(left / EstimatedSeconds, 1, calls);
            }

            Arm();
            long start = Stopwatch.GetTimestamp();
            Verdict verdict = Try(CallKind.Timed, calls);
            long ticks = Stopwatch.GetTimestamp() - start;
            _spent += ticks;
            switch (verdict)
            {
                case Verdict.Good:
                    EstimatedSeconds = Seconds(ticks) / calls;
                    return EstimatedSeconds;
                case Verdict.Bad:
                    return double.NaN;
            }
        }

        return double.NaN;
    }

    /// <summary>Calls until the runtime has compiled the kernel as well as it will: 32 calls make its methods hot, and some
    /// 100 ms later the optimised code is in place. A trial that is timed once only is warmed by a few calls.</summary>
    public void WarmUp(bool thoroughly)
    {
        while (!Configuration.Warmth.IsEnough(thoroughly))
        {
            run.Watch?.Calling(Outcome.InstanceIndex, place);
            scratch.Arm(run.Plan.Limits.TrialTimeout, run.Plan.Limits.TrialTimeout, run.Cancellation);
            long start = Stopwatch.GetTimestamp();
            try
            {
                Invoke(CallKind.Timed);
            }
            catch (Exception) when (!run.Cancellation.IsCancellationRequested)
            {
                // What is wrong with the trial, the call that counts will find again and report.
                return;
            }

            Configuration.Warmth.Note(start, Stopwatch.GetTimestamp());
        }
    }

    /// <summary>Pins this thread and its calls' helpers where the trial asks for it; where the system refuses, the trial has failed.</summary>
    private Pinning.Pinned Pin()
    {
        if (!Configuration.IsPinned)
        {
            return default;
        }

        try
        {
            return Pinning.Pin(Spec.Threads, scratch.Cores.First);
        }
        catch (InvalidOperationException refusal)
        {
            Fail(refusal.Message);
            return default;
        }
    }

    private static double Seconds(long ticks) => ticks / (double)Stopwatch.Frequency;

    private void Arm()
    {
        run.Watch?.Calling(Outcome.InstanceIndex, place);
        TimeSpan limit = run.Plan.Limits.TrialTimeout;
        TimeSpan left = limit - Stopwatch.GetElapsedTime(0, _spent);
        scratch.Arm(left > TimeSpan.FromMilliseconds(1) ? left : TimeSpan.FromMilliseconds(1), limit, run.Cancellation);
    }

    /// <summary>Puts NaN where the kernel has to write, so that what it leaves out cannot pass for an answer.</summary>
    private void Prepare()
    {
        if (IsSingle)
        {
            Reset(Judged<float>(), float.NaN);
        }
        else
        {
            Reset(Judged<double>(), double.NaN);
        }
    }

    /// <summary>Where the untimed call writes.</summary>
    public GradientOutput<T>[] Judged<T>()
        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T> =>
        Configuration.AsksForAll ? scratch.OutputsWithAll<T>(Shape)
            : AsksForDQ ? scratch.OutputsWithDQ<T>(Shape) : scratch.Outputs<T>(Shape);

    private static void Reset<T>(GradientOutput<T>[] outputs, T nan)
        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
    {
        foreach (GradientOutput<T> output in outputs)
        {
            Array.Fill(output.DX, nan);
            Array.Fill(output.Forward, nan);
            Array.Fill(output.DQ ?? [], nan);
            Array.Fill(output.DK ?? [], nan);
            Array.Fill(output.DV ?? [], nan);
            output.Loss = double.NaN;
            output.MinRowSumOverN = double.NaN;
            output.NonPositiveRowSums = 0;
            output.MaxLogit = double.NaN;
            output.RmsLogit = double.NaN;
            output.FittedRadius = double.NaN;
            output.PredictedExpError = double.NaN;
            output.FittedDegree = double.NaN;
        }
    }

    private void Invoke(CallKind kind)
    {
        KernelContext context = scratch.Context(Spec.Threads, kind);
        if (IsSingle)
        {
            GradientCall.Compute(Configuration.Kernel, _single!, Configuration.Settings, Outputs<float>(kind), context);
        }
        else
        {
            GradientCall.Compute(Configuration.Kernel, _double!, Configuration.Settings, Outputs<double>(kind), context);
        }
    }

    private GradientOutput<T>[] Outputs<T>(CallKind kind)
        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T> =>
        kind == CallKind.Judged || Configuration.AsksForAll ? Judged<T>() : scratch.Outputs<T>(Shape);

    private Verdict Try(CallKind kind, int calls)
    {
        try
        {
            for (int i = 0; i < calls; i++)
            {
                Invoke(kind);
            }

            return Verdict.Good;
        }
        catch (OperationCanceledException) when (run.Cancellation.IsCancellationRequested)
        {
            throw;
        }
        catch (OperationCanceledException) when (scratch.TimedOut)
        {
            Fail($"timed out after {Describe.Time(run.Plan.Limits.TrialTimeout)} (limits.trial_timeout)");
        }
        catch (Exception failure) when (failure is KernelFailure or ArgumentException)
        {
            // The kernel says that its answer would be wrong, or that the settings are: trying again changes neither.
            Fail(Describe.Exception(failure));
        }
        catch (OutOfMemoryException)
        {
            Fail($"ran out of memory; {Describe.Bytes(Cost.StateBytes)} of state were predicted. Lower limits.memory.");
        }
        catch (Exception fault)
        {
            if (Outcome.Attempts <= run.Plan.Limits.Retries)
            {
                Outcome.Attempts++;
                return Verdict.Again;
            }

            Fail(Describe.Exception(fault));
        }

        return Verdict.Bad;
    }

    private enum Verdict
    {
        Good,
        Bad,
        Again,
    }
}

/// <summary>How warm a kernel is in one precision, in this process.</summary>
internal sealed class Warmth
{
    private const int ThoroughCalls = 32;
    private const double ThoroughSeconds = 0.15;
    private const double MostSeconds = 0.25;
    private const int FewCalls = 3;
    private readonly Lock _gate = new();
    private int _calls;
    private double _seconds;
    private long _first;

    public bool IsEnough(bool thoroughly)
    {
        lock (_gate)
        {
            return _seconds > MostSeconds
                || (thoroughly
                    ? _calls >= ThoroughCalls && Stopwatch.GetElapsedTime(_first).TotalSeconds >= ThoroughSeconds
                    : _calls >= FewCalls);
        }
    }

    public void Note(long start, long end)
    {
        lock (_gate)
        {
            _first = _calls++ == 0 ? start : _first;
            _seconds += (end - start) / (double)Stopwatch.Frequency;
        }
    }
}
