using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.IO.Hashing;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Experiments.Grains.Telemetry;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using Experiments.Kernels.Numbers;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>Runs one shard's trials, on the thread that calls it, and returns what is to be committed.</summary>
/// <remarks>
/// For each instance: draw it once, compute its float64 reference once, call every trial once untimed (errors, digest,
/// diagnostics, phases), then time the trials against each other in paired rounds. A trial that fails or is skipped is an
/// outcome with a reason; only cancellation and our own mistakes leave by exception. Safe for several lanes at once.
/// </remarks>
public sealed class ShardRunner(
    Workbench workbench, MemoryBudget memory, IReferenceLibrary references, IFileLibrary files, TimeProvider time) : IShardRunner
{
    private readonly Workbench _workbench = workbench;
    private readonly MemoryBudget _memory = memory;
    private readonly IReferenceLibrary _references = references;
    private readonly IFileLibrary _files = files;
    private readonly TimeProvider _time = time;

    /// <summary>What is shorter than this gets no span of its own.</summary>
    public const double ShortestSpanSeconds = 1e-3;

    // A reference is looked for in the store when computing it would take about 20 ms (by the kernel's own model at one
    // GFLOP/s, slow for any processor of today): a look-up takes one. It is kept there when it took 50 ms and is not large.
    private const double FlopsWorthALookUp = 2e7;
    private const double SecondsWorthKeeping = 0.05;
    private const long MostForwardBytesKept = 16L << 20;
    private const string ReferenceKernel = "exact";

    private readonly ConcurrentDictionary<(string Kernel, string Precision), Warmth> _warmth = new();

    /// <summary>Hands the run's outcomes to <see cref="ShardRun.Outcomes"/>, in the order of its trials.</summary>
    /// <exception cref="OperationCanceledException">The run was cancelled; nothing of it is to be committed.</exception>
    /// <exception cref="InvalidOperationException">The lease and the expansion of the sweep disagree.</exception>
    public ShardResult Run(ShardRun run, Lane lane)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(lane);
        long start = Stopwatch.GetTimestamp();
        List<ReferenceRecord> kept = [];
        int place = 0;
        lane.Scratch.Cores = lane.CoresOf(run.Plan.Measure.Sharing, Pinning.Cores.Count);
        for (long index = run.Lease.FirstInstance; index < run.Lease.EndInstance; index++)
        {
            run.Cancellation.ThrowIfCancellationRequested();
            if (run.Plan.At(index) is InstancePlan plan)
            {
                new InstanceRun(this, run, lane, plan, place, kept).Execute();
                place += plan.Trials.Count;
                Failpoints.Hit(Failpoints.MidShard);
            }
        }

        // A trial under another's number would be the worst of all faults, so the numbering is checked where it is used.
        int trials = run.Lease.Only is not IReadOnlyList<int> only ? place : only.Count(p => p < place);
        if (trials != run.Lease.Trials)
        {
            throw new InvalidOperationException(
                $"Shard {run.Lease.Shard} of sweep {run.Lease.SweepId} was planned with {run.Lease.Trials} trials and expands "
                + $"to {trials}: this build expands sweeps differently from the one that planned it.");
        }

        lane.Scratch.Trim();
        Measured(run, Stopwatch.GetElapsedTime(start));
        return new ShardResult(kept);
    }

    internal static void Measured(ShardRun run, TimeSpan elapsed)
    {
        ExperimentsTelemetry.ShardDuration.Record(elapsed.TotalSeconds);
        ExperimentsTelemetry.Trials.Add(run.Done, new KeyValuePair<string, object?>("status", "done"));
        ExperimentsTelemetry.Trials.Add(run.Failed, new KeyValuePair<string, object?>("status", "failed"));
        ExperimentsTelemetry.Trials.Add(run.Skipped, new KeyValuePair<string, object?>("status", "skipped"));
    }

    internal static void Measured(TrialOutcome outcome)
    {
        if (ExperimentsTelemetry.TrialDuration.Enabled && outcome.SecondsMedian is double seconds)
        {
            ExperimentsTelemetry.TrialDuration.Record(
                seconds, new KeyValuePair<string, object?>("experiments.kernel", outcome.Spec.Kernel));
        }
    }

    /// <summary>One instance on its lane, from the drawing to the outcomes.</summary>
    private readonly ref struct InstanceRun
    {
        private readonly ShardRunner _runner;
        private readonly ShardRun _run;
        private readonly Lane _lane;
        private readonly InstancePlan _plan;
        private readonly int _place;
        private readonly List<ReferenceRecord> _kept;
        private readonly List<TrialRun> _trials;

        public InstanceRun(
            ShardRunner runner, ShardRun run, Lane lane, InstancePlan plan, int place, List<ReferenceRecord> kept)
        {
            _runner = runner;
            _run = run;
            _lane = lane;
            _plan = plan;
            _place = place;
            _kept = kept;
            _trials = lane.Scratch.Trials;
        }

        private InstanceSpec Instance => _plan.Instance;

        private CallShape Shape => BuiltInCatalog.ShapeOf(Instance);

        private bool AsksForAll => _trials.Exists(t => t.Configuration.AsksForAll);

        /// <summary>Of how many rows the reference is; null for all.</summary>
        private int? ReferenceRows => _run.Plan.Measure.RowsOf(Instance);

        public void Execute()
        {
            _trials.Clear();
            long start = Stopwatch.GetTimestamp();
            DateTimeOffset startedAt = _runner._time.GetUtcNow();
            if (!Gather(startedAt))
            {
                return;
            }

            InstanceTrace trace = new(start, startedAt);
            _lane.Begin(Instance, "drawing");
            _run.Watch?.Preparing(_plan.Index);
            double bytes = PredictBytes();
            if (_trials.Exists(t => t.Alive))
            {
                using (_runner._memory.Reserve(bytes, _run.Cancellation))
                {
                    Compute(trace);
                }
            }

            // Before the outcomes are handed on: it says in them which span is theirs.
            trace.Write(_run, _plan, _trials, Stopwatch.GetTimestamp());
            foreach (TrialRun trial in _trials)
            {
                if (!trial.Companion)
                {
                    _run.Outcomes.Add(trial.Outcome);
                    _run.Count(trial.Outcome.Status);
                    Measured(trial.Outcome);
                }
            }

            _run.Watch?.Finished(_plan, [.. _trials.Where(t => !t.Companion).Select(t => t.Outcome)]);
            _trials.Clear();
        }

        /// <summary>Makes the trials that are to run; false when all are stored already, or are other shards'.</summary>
        private bool Gather(DateTimeOffset startedAt)
        {
            bool any = false;
            for (int i = 0; i < _plan.Trials.Count; i++)
            {
                TrialPlace at = new(_plan.Index, i);
                if (_run.Barred?.Contains(at) == true)
                {
                    continue;
                }

                TrialSpec spec = _plan.Trials[i];
                long? number = _run.Lease.NumberOf(_place + i);
                bool stored = number is null || (_run.Stored.Count > 0 && _run.Stored.Contains(number.Value))
                    || (_run.Alone is TrialPlace alone && alone != at);

                // A stored exact trial runs again beside the new ones, or they would have nothing to be paired with.
                if (stored && spec.Kernel != ReferenceKernel)
                {
                    continue;
                }

                TrialOutcome outcome = new()
                {
                    // One of a shard of before the extension has a number that is not known here, and stores nothing.
                    Trial = number ?? -1,
                    InstanceIndex = _plan.Index,
                    Instance = Instance,
                    Spec = spec,
                    StartedAt = startedAt,
                };
                _trials.Add(new TrialRun(_run, _lane.Scratch, outcome, ConfigurationOf(spec), i, companion: stored));
                any |= !stored;
            }

            return any;
        }

        private Configuration ConfigurationOf(TrialSpec spec)
        {
            Dictionary<TrialSpec, Configuration> known = _lane.Scratch.Configurations;
            if (!known.TryGetValue(spec, out Configuration? configuration))
            {
                Warmth warmth = _runner._warmth.GetOrAdd(
                    (spec.Kernel, spec.Precision), static _ => new Warmth());
                known.Add(spec, configuration = new Configuration(spec, _runner._workbench.Kernel(spec.Kernel), warmth));
            }

            return configuration;
        }

        /// <summary>What the instance will need at once, after skipping the trials that need more than they may.</summary>
        private double PredictBytes()
        {
            double n = Instance.N;
            double d = Instance.D;
            double numbersIn = Instance.Parts * ((4 * n * d) + (2 * d * d));
            double numbersOut = Instance.Parts * ((n * d) + (2 * d * d));
            double numbersKept = numbersOut;
            if (ReferenceRows is int rows)
            {
                // The reference's F and dQ of its rows; and the trials' dQ of all.
                numbersKept = Instance.Parts * (2.0 * d * (rows + d));
                numbersOut += Instance.Parts * n * d;
            }

            double three = AsksForAll ? 3 * Instance.Parts * n * d : 0;
            numbersOut += three;
            numbersKept += ReferenceRows is null ? three : 0;
            bool single = _trials.Exists(t => t.IsSingle);
            bool referenced = _run.Plan.Measure.Reference == ReferenceMode.ExactFloat64;

            // The drawing in double, its copy in float, and the reference's answer stay throughout.
            double common = (8 * numbersIn) + (single ? 4 * numbersIn : 0) + (referenced ? 8 * numbersKept : 0);
            double most = common;
            long limit = Math.Min(_run.Plan.Limits.MemoryBytes ?? _runner._memory.Default, _runner._memory.Limit);
            string? unreferenced = null;
            if (referenced)
            {
                try
                {
                    most = Math.Max(most, common + PredictReference().StateBytes);
                }
                catch (ArgumentException impossible)
                {
                    unreferenced = $"no reference: {Describe.Exception(impossible)}";
                }
            }

            double least = most;

            foreach (TrialRun trial in _trials)
            {
                int size = trial.IsSingle ? 4 : 8;
                if (!trial.Configuration.TryPredict(Shape, out KernelCost cost, out string? impossible))
                {
                    trial.Fail(impossible!);
                    continue;
                }

                if (trial.Configuration.IsPinned
                    && Pinning.Refusal(trial.Spec.Threads, _lane.Scratch.Cores.Count) is string refusal)
                {
                    if (!_run.Plan.Measure.Sharing)
                    {
                        // Lanes that share the machine have a part of its cores, and how many lanes another silo has is not known.
                        _run.TryHandOn(null, trial.Spec.Threads);
                    }

                    trial.Skip(refusal);
                    continue;
                }

                trial.Cost = cost;
                trial.Outcome.Flops = trial.Cost.Flops;
                trial.Outcome.StateBytes = trial.Cost.StateBytes;
                trial.Outcome.Rank = trial.Cost.Rank;
                double needs = Math.Max(least, common + (size * numbersOut) + trial.Cost.StateBytes);
                if (!(needs <= limit))
                {
                    if (!(needs > _run.Plan.Limits.MemoryBytes))
                    {
                        _run.TryHandOn(MemoryBudget.FreeFor(needs, named: _run.Plan.Limits.MemoryBytes is not null), null);
                    }

                    trial.Skip(_run.Plan.Limits.MemoryBytes is long asked && asked > limit
                        ? $"needs {Describe.Bytes(needs)}, this machine has {Describe.Bytes(limit)} free"
                        : $"needs {Describe.Bytes(needs)}, limit {Describe.Bytes(limit)}");
                }
                else if (unreferenced is not null)
                {
                    trial.Fail(unreferenced);
                }
                else
                {
                    most = Math.Max(most, needs);
                }
            }

            return most;
        }

        private void Compute(InstanceTrace trace)
        {
            if (!TryDraw(trace, out AttentionProblem<double>[]? problem))
            {
                return;
            }

            double bound = problem.Max(p => Math.Max(LargestOfProduct(p.A1, p.X, p.N, p.D), Largest(p.A2)));
            Reference reference = FindReference(problem, trace);
            double? theorem = null;
            AttentionProblem<float>[]? single = null;
            bool thoroughly = _run.Plan.Measure.MinTime > TimeSpan.Zero;
            foreach (TrialRun trial in _trials)
            {
                trial.Outcome.BoundMeasured = bound;
                if (!trial.Alive)
                {
                    continue;
                }

                _run.Cancellation.ThrowIfCancellationRequested();
                if (trial.IsSingle)
                {
                    trial.Use(single ??= [.. problem.Select(p => p.To<float>())]);
                }
                else
                {
                    trial.Use(problem);
                }

                _lane.Begin(trial.Spec);
                trial.WarmUp(thoroughly);
                trial.Outcome.StartedAt = trace.At(Stopwatch.GetTimestamp());
                if (trial.CallOnce())
                {
                    if (trial.IsSingle)
                    {
                        Judge(trial, trial.Judged<float>(), problem, reference);
                    }
                    else
                    {
                        Judge(trial, trial.Judged<double>(), problem, reference);
                    }

                    if (trial.Outcome is { GradientAbsoluteError: double error, PredictedExpError: double epsilon } outcome)
                    {
                        outcome.TheoremBound = (theorem ??= TheoremFactor(problem, reference)) * epsilon;
                        outcome.TheoremSlack = error > 0 ? outcome.TheoremBound / error : null;
                    }
                }
            }

            trace.RoundsStart = Stopwatch.GetTimestamp();
            trace.Rounds = PairedRounds.Run(_trials, _run.Plan.Measure, BuiltInCatalog.RequestOf(Instance).Key);
            trace.RoundsEnd = Stopwatch.GetTimestamp();
            foreach (TrialRun trial in _trials)
            {
                if (trial.Alive && trial.Samples.Count > 0)
                {
                    Summarise(trial);
                }
            }

            foreach (TrialRun trial in _trials)
            {
                if (trial.Alive && Exact(trial) is TrialRun exact)
                {
                    trial.Outcome.SpeedupOverExact = Speedup(exact, trial);
                }
            }
        }

        private bool TryDraw(InstanceTrace trace, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out AttentionProblem<double>[]? problem)
        {
            problem = null;
            string? fault;
            try
            {
                problem = Draw();
                fault = problem.Select(p => p.FirstNonFinite()).FirstOrDefault(f => f is not null);
            }
            catch (Exception impossible) when (impossible is not (OperationCanceledException or StoreUnavailableException))
            {
                // A missing file, a shape that does not fit, no memory: the instance's trials fail with it, the sweep goes on. A store that is away says
                // nothing of the instance.
                fault = Describe.Exception(impossible);
            }

            trace.DrawEnd = Stopwatch.GetTimestamp();
            if (problem is not null && fault is null)
            {
                return true;
            }

            foreach (TrialRun trial in _trials)
            {
                if (trial.Alive)
                {
                    trial.Fail($"the instance cannot be used: {fault}");
                }
            }

            problem = null;
            return false;
        }

        private AttentionProblem<double>[] Draw()
        {
            for (bool again = true; ; again = false)
            {
                using LocatedFiles files = _runner._files.Locate(Instance, _run.Cancellation);
                try
                {
                    return InstanceAxes.Draw(
                        _runner._workbench.Family(Instance.Family),
                        BuiltInCatalog.RequestOf(Instance) with { Cancellation = _run.Cancellation, Located = files.Paths });
                }
                catch (InvalidDataException) when (again && Instance.Files.Any(f => !files.Paths.ContainsKey(f.Content) && !FileContents.Holds(f.Path, f.Content)))
                {
                    // One that was where the sweep says has just been saved over: what the sweep carries is what counts.
                }
                catch (InvalidDataException fault)
                {
                    throw new InvalidDataException(files.Named(fault.Message), fault);
                }
                catch (ArgumentException fault)
                {
                    throw new ArgumentException(files.Named(fault.Message), fault);
                }
            }
        }

        private KernelCost PredictReference() => GradientCall.Predict(
            ReferenceRows is int rows ? new ExactRows(new int[rows]) : _runner._workbench.Kernel(ReferenceKernel), Shape, 8, ReferenceThreads,
            Settings.None);

        // Its bits do not depend on the threads, so it takes all that this shard has to itself.
        private int ReferenceThreads => _run.Plan.Measure.Sharing ? 1 : Environment.ProcessorCount;

        private Reference FindReference(AttentionProblem<double>[] problem, InstanceTrace trace)
        {
            if (_run.Plan.Measure.Reference == ReferenceMode.None)
            {
                return default;
            }

            _lane.Begin(Instance, "reference");
            trace.ReferenceStart = Stopwatch.GetTimestamp();
            int[]? rows = ReferenceRows is int count ? InstanceAxes.SampleRows(BuiltInCatalog.RequestOf(Instance), count) : null;
            IGradientKernel kernel = rows is null ? _runner._workbench.Kernel(ReferenceKernel) : new ExactRows(rows);
            int height = rows?.Length ?? Instance.N;
            bool costly = PredictReference().Flops >= FlopsWorthALookUp;
            Reference reference;

            // What is stored has dX only.
            if (costly && !(AsksForAll && rows is null) && _runner._references.Find(_run.Plan.Measure.ReferenceKeyOf(Instance), _run.Cancellation) is ReferenceRecord stored
                && stored.Rows == rows?.Length
                && stored.Gradient.LongLength == Instance.Parts * Instance.D * (rows is null ? Instance.D : height)
                && stored.Forward.LongLength == Instance.Parts * Instance.D * height)
            {
                _run.CountReferenceHit();
                ExperimentsTelemetry.ReferenceHits.Add(1);
                trace.ReferenceFound = true;
                reference = new Reference(
                    Split(stored.Gradient, problem.Length), Split(stored.Forward, problem.Length), stored.Loss, stored.MaxLogit, stored.RmsLogit, null, rows, []);
            }
            else
            {
                reference = ComputeReference(kernel, rows, problem, costly);
            }

            trace.ReferenceEnd = Stopwatch.GetTimestamp();
            return reference;
        }

        private Reference ComputeReference(IGradientKernel kernel, int[]? rows, AttentionProblem<double>[] problem, bool costly)
        {
            LaneScratch scratch = _lane.Scratch;
            try
            {
                int threads = costly ? ReferenceThreads : 1;
                TimeSpan limit = _run.Plan.Limits.TrialTimeout;
                scratch.Arm(limit, limit, _run.Cancellation);
                GradientOutput<double>[] outputs = scratch.Reference(
                    rows is null ? Shape : Shape with { N = rows.Length }, dQ: rows is not null, all: AsksForAll && rows is null);
                long start = Stopwatch.GetTimestamp();
                GradientCall.Compute(kernel, problem, Settings.None, outputs, scratch.Context(threads, CallKind.Reference));
                double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
                CallFacts facts = CallFacts.Of(outputs);
                if (!double.IsFinite(facts.Loss) || outputs.Any(o => FirstNonFinite<double>(o.DX) >= 0))
                {
                    return Reference.Missing("no reference: the exact gradient in float64 is not finite");
                }

                Reference reference = new(
                    [.. outputs.Select(o => rows is null ? o.DX : o.DQ!)], [.. outputs.Select(o => o.Forward)], facts.Loss, facts.MaxLogit, facts.RmsLogit,
                    null, rows, outputs);
                if (seconds >= SecondsWorthKeeping && 8L * reference.Forwards.Sum(f => f.LongLength) <= MostForwardBytesKept)
                {
                    _kept.Add(new ReferenceRecord(
                        _run.Plan.Measure.ReferenceKeyOf(Instance), [.. reference.Gradients!.SelectMany(g => g)],
                        [.. reference.Forwards.SelectMany(f => f)], facts.Loss, facts.MaxLogit, facts.RmsLogit, seconds)
                    {
                        Rows = rows?.Length,
                    });
                }

                return reference;
            }
            catch (OperationCanceledException) when (_run.Cancellation.IsCancellationRequested)
            {
                throw;
            }
            catch (OperationCanceledException) when (scratch.TimedOut)
            {
                return Reference.Missing(
                    $"no reference: it timed out after {Describe.Time(_run.Plan.Limits.TrialTimeout)} (limits.trial_timeout)");
            }
            catch (Exception fault)
            {
                // The trials still run; their errors stay unknown, and each says why.
                return Reference.Missing($"no reference: {Describe.Exception(fault)}");
            }
        }

        /// <summary>Fills in what the untimed call showed.</summary>
        private void Judge<T>(TrialRun trial, GradientOutput<T>[] outputs, AttentionProblem<double>[] problem, Reference reference)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            TrialOutcome outcome = trial.Outcome;
            CallFacts facts = CallFacts.Of(outputs);
            outcome.MinRowSumOverN = Known(facts.MinRowSumOverN);
            outcome.NonPositiveRowSums = facts.NonPositiveRowSums;
            outcome.FittedRadius = Known(facts.FittedRadius);
            outcome.PredictedExpError = Known(facts.PredictedExpError);
            outcome.FittedDegree = (int?)Known(facts.FittedDegree);
            CorrectPrediction(trial);

            // A whole reference has seen every logit; a sampled one some, and is asked where the kernel has seen none.
            bool whole = reference is { Gradients: not null, Rows: null };
            outcome.MaxLogit = Known(whole ? reference.MaxLogit : facts.MaxLogit) ?? Known(whole ? facts.MaxLogit : reference.MaxLogit);
            outcome.RmsLogit = Known(whole ? reference.RmsLogit : facts.RmsLogit) ?? Known(whole ? facts.RmsLogit : reference.RmsLogit);
            AddPhases(outcome);
            if (facts.NonPositiveRowSums > 0)
            {
                trial.Fail($"{facts.NonPositiveRowSums} of {Instance.Parts * Instance.N} row sums are not positive");
                return;
            }

            if (Fault(outputs, trial.Configuration.AsksForAll) is string fault)
            {
                trial.Fail(fault);
                return;
            }

            outcome.Loss = facts.Loss;
            outcome.Digest = Digest<T>(trial.Configuration.AsksForAll
                ? outputs.SelectMany(o => (T[][])[o.DX, o.DQ!, o.DK!, o.DV!]) : outputs.Select(o => o.DX));
            if (reference.Gradients is not double[][] gold)
            {
                outcome.Reason = reference.Missed;
                return;
            }

            if (reference.Rows is int[] rows)
            {
                Estimate(trial, SampledErrors.Of(problem, outputs, new SampledAnswer(rows, gold, reference.Forwards)), rows.Length);
                return;
            }

            (double error, double scale) = Distance(outputs.Select(o => o.DX), gold);
            outcome.GradientAbsoluteError = error;
            outcome.GradientRelativeError = Ratio(error, scale);
            if (trial.Configuration.AsksForAll)
            {
                foreach (double? other in OfOthers(outputs, reference.Outputs))
                {
                    outcome.GradientRelativeError = outcome.GradientRelativeError is double one && other is double two ? Math.Max(one, two) : null;
                }
            }

            outcome.LossRelativeError = Ratio(Math.Abs(facts.Loss - reference.Loss), Math.Abs(reference.Loss));
            (double forwardError, double forwardScale) = Distance(outputs.Select(o => o.Forward), reference.Forwards);
            outcome.ForwardRelativeError = Ratio(forwardError, forwardScale);
        }

        /// <summary>The relative errors of dQ, dK and dV, each of its own largest entry.</summary>
        private static IEnumerable<double?> OfOthers<T>(GradientOutput<T>[] outputs, GradientOutput<double>[] gold)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            foreach ((Func<GradientOutput<T>, T[]?> of, Func<GradientOutput<double>, double[]?> right) in
                ((Func<GradientOutput<T>, T[]?>, Func<GradientOutput<double>, double[]?>)[])[
                    (o => o.DQ, o => o.DQ), (o => o.DK, o => o.DK), (o => o.DV, o => o.DV)])
            {
                (double error, double scale) = Distance(outputs.Select(o => of(o)!), [.. gold.Select(o => right(o)!)]);
                yield return Ratio(error, scale);
            }
        }

        private static void Estimate(TrialRun trial, SampledErrors errors, int rows)
        {
            TrialOutcome outcome = trial.Outcome;
            outcome.ReferenceRows = rows;
            double loss = Math.Abs(errors.ExactLoss);
            outcome.LossRelativeError = Ratio(Math.Abs(errors.Loss), loss);
            outcome.LossErrorStandardError = Ratio(errors.LossStandardError, loss);
            outcome.ForwardRelativeError = Ratio(errors.Forward, errors.ForwardScale);
            if (double.IsNaN(errors.Gradient))
            {
                outcome.Reason = $"no gradient error: {trial.Spec.Kernel} does not give dQ, which a reference on rows is compared with; "
                    + "take reference: exact-float64, or have the kernel write output.DQ";
                return;
            }

            outcome.GradientAbsoluteError = errors.Gradient;
            outcome.GradientRelativeError = Ratio(errors.Gradient, errors.GradientScale);
            outcome.GradientErrorStandardError = errors.GradientStandardError;
        }

        /// <summary>A degree that the kernel chose was predicted by an upper bound: the row says what the chosen one costs.</summary>
        private void CorrectPrediction(TrialRun trial)
        {
            Settings settings = trial.Configuration.Settings;
            if (trial.Outcome.FittedDegree is not int chosen || settings.Values.GetValueOrDefault("degree") is not string)
            {
                return;
            }

            Dictionary<string, object> values = new(settings.Values) { ["degree"] = (long)chosen };
            KernelCost cost = GradientCall.Predict(
                trial.Configuration.Kernel, Shape, trial.IsSingle ? 4 : 8, trial.Configuration.Spec.Threads, new Settings(values));
            trial.Outcome.Flops = cost.Flops;
            trial.Outcome.StateBytes = cost.StateBytes;
            trial.Outcome.Rank = cost.Rank;
        }

        /// <summary>The first number that is not finite, as a sentence; null where all are. Where the trial did not ask for them, dQ, dK and dV may be
        /// anything.</summary>
        private string? Fault<T>(GradientOutput<T>[] outputs, bool all)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            for (int part = 0; part < outputs.Length; part++)
            {
                GradientOutput<T> output = outputs[part];
                string where = outputs.Length == 1 ? "" : $" of problem {part}";
                int bad = FirstNonFinite<T>(output.DX);
                if (bad >= 0)
                {
                    return $"the gradient{where} is not finite: dX[{bad / Instance.D}, {bad % Instance.D}] is {output.DX[bad]}";
                }

                if (!double.IsFinite(output.Loss))
                {
                    return $"the loss{where} is {output.Loss}";
                }

                (string, T[]?)[] results =
                [
                    ("the forward output{0} is not finite: F", output.Forward),
                    ("dQ{0} is not finite: it", output.DQ), ("dK{0} is not finite: it", output.DK), ("dV{0} is not finite: it", output.DV),
                ];
                foreach ((string what, T[]? values) in results.Take(all ? results.Length : 1))
                {
                    bad = values is null ? -1 : FirstNonFinite<T>(values);
                    if (bad >= 0)
                    {
                        return string.Format(CultureInfo.InvariantCulture, what, where)
                            + $"[{bad / Instance.D}, {bad % Instance.D}] is {values![bad]}";
                    }
                }
            }

            return null;
        }

        /// <summary>The theorem's bound on the gradient's absolute error is this times the relative error of each exponential.</summary>
        /// <remarks>c·h has d terms, which the division of the logits by d makes up for, and that by √d in part. Where F is known of some
        /// rows only, ‖F‖∞ ≤ ‖h‖∞ stands in for it, since rows of F are means of rows of h.</remarks>
        private static double TheoremFactor(AttentionProblem<double>[] problem, Reference reference)
        {
            double most = 0;
            for (int part = 0; part < problem.Length; part++)
            {
                AttentionProblem<double> gold = problem[part];
                double h = LargestOfProduct(gold.A3, gold.Y, gold.N, gold.D);
                double c = reference.Rows is null ? Distance<double>(reference.Forwards[part], gold.E).Error : h + Largest(gold.E);
                most = Math.Max(
                    most, gold.N * Largest(gold.A1) * Largest(gold.A2) * h * ((6 * c) + (4 * h)) * (gold.D / gold.Divisor));
            }

            return most;
        }

        private void AddPhases(TrialOutcome outcome)
        {
            foreach (Phase phase in _lane.Scratch.Phases)
            {
                double seconds = (phase.End - phase.Start) / (double)Stopwatch.Frequency;
                switch (phase.Name)
                {
                    case "project":
                        outcome.ProjectSeconds = (outcome.ProjectSeconds ?? 0) + seconds;
                        break;
                    case "moments":
                        outcome.MomentsSeconds = (outcome.MomentsSeconds ?? 0) + seconds;
                        break;
                    case "rows":
                        outcome.RowsSeconds = (outcome.RowsSeconds ?? 0) + seconds;
                        break;
                    case "reduce":
                        outcome.ReduceSeconds = (outcome.ReduceSeconds ?? 0) + seconds;
                        break;
                }
            }
        }

        private static void Summarise(TrialRun trial)
        {
            double[] samples = [.. trial.Samples];
            TrialOutcome outcome = trial.Outcome;
            double median = PairedRounds.Median(samples);
            outcome.Samples = samples;
            outcome.SecondsMin = samples.Min();
            outcome.SecondsMedian = median;
            outcome.SecondsMad = PairedRounds.MedianAbsoluteDeviation(samples, median);
            outcome.CoreSeconds = trial.Spec.Threads * median;
        }

        /// <summary>The exact trial of the same precision and gradients that was timed beside this one; of the same threads if there is one, and
        /// of those one that is pinned alike. Null where there is none: to be faster than a call that gives four gradients, or slower than one that
        /// gives one, says nothing.</summary>
        private TrialRun? Exact(TrialRun trial)
        {
            TrialRun? found = null;
            foreach (TrialRun other in _trials)
            {
                if (other.Spec.Kernel == ReferenceKernel && other.Alive && other.IsSingle == trial.IsSingle
                    && other.Configuration.AsksForAll == trial.Configuration.AsksForAll
                    && (found is null || Likeness(other, trial) > Likeness(found, trial)))
                {
                    found = other;
                }
            }

            return found;
        }

        private static int Likeness(TrialRun one, TrialRun other) => (one.Spec.Threads == other.Spec.Threads ? 2 : 0)
            + (one.Configuration.IsPinned == other.Configuration.IsPinned ? 1 : 0);

        private static double? Speedup(TrialRun exact, TrialRun trial)
        {
            int rounds = Math.Min(exact.Samples.Count, trial.Samples.Count);
            if (rounds == 0)
            {
                return null;
            }

            Span<double> ratios = rounds <= 64 ? stackalloc double[rounds] : new double[rounds];
            for (int i = 0; i < rounds; i++)
            {
                ratios[i] = exact.Samples[i] / trial.Samples[i];
            }

            double median = PairedRounds.Median(ratios);
            return double.IsFinite(median) ? median : null;
        }
    }

    /// <summary>128-bit hash of the numbers' little-endian bytes: equal bits, equal digest, on any machine.</summary>
    internal static Guid Digest<T>(IEnumerable<T[]> matrices)
        where T : unmanaged
    {
        XxHash128 hash = new();
        foreach (T[] values in matrices)
        {
            ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes<T>(values);
            byte[]? swapped = null;
            if (!BitConverter.IsLittleEndian)
            {
                swapped = bytes.ToArray();
                int size = Unsafe.SizeOf<T>();
                for (int i = 0; i < swapped.Length; i += size)
                {
                    swapped.AsSpan(i, size).Reverse();
                }
            }

            hash.Append(swapped ?? bytes);
        }

        Span<byte> text = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(text, hash.GetCurrentHashAsUInt128());
        return new Guid(text, bigEndian: true);
    }

    /// <summary>The matrices of so many problems, which lie one after another.</summary>
    private static double[][] Split(double[] all, int parts)
    {
        int each = all.Length / parts;
        return parts == 1 ? [all] : [.. Enumerable.Range(0, parts).Select(p => all[(p * each)..((p + 1) * each)])];
    }

    /// <summary>The same over all problems.</summary>
    private static (double Error, double Scale) Distance<T>(IEnumerable<T[]> values, double[][] gold)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        (double Error, double Scale) largest = (0, 0);
        foreach ((T[] mine, double[] exact) in values.Zip(gold))
        {
            (double error, double scale) = Distance<T>(mine, exact);
            largest = (Math.Max(largest.Error, error), Math.Max(largest.Scale, scale));
        }

        return largest;
    }

    // The loops below are optimised at their first call: the runtime finds out by itself that they are hot when a short sweep
    // of small trials is half over.

    private static double? Known(double value) => double.IsFinite(value) ? value : null;

    private static double? Ratio(double error, double scale) => error == 0 ? 0 : scale > 0 ? error / scale : null;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int FirstNonFinite<T>(ReadOnlySpan<T> values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int i = 0; i < values.Length; i++)
        {
            if (!T.IsFinite(values[i]))
            {
                return i;
            }
        }

        return -1;
    }

    /// <summary>‖values − gold‖∞ and ‖gold‖∞, in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static (double Error, double Scale) Distance<T>(ReadOnlySpan<T> values, ReadOnlySpan<double> gold)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double error = 0;
        double scale = 0;
        for (int i = 0; i < values.Length; i++)
        {
            error = Math.Max(error, Math.Abs(double.CreateTruncating(values[i]) - gold[i]));
            scale = Math.Max(scale, Math.Abs(gold[i]));
        }

        return (error, scale);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double Largest(ReadOnlySpan<double> values)
    {
        double largest = 0;
        foreach (double value in values)
        {
            largest = Math.Max(largest, Math.Abs(value));
        }

        return largest;
    }

    /// <summary>‖A X‖∞ of A (n, d) and X (d, d), without keeping the product.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double LargestOfProduct(double[] a, double[] x, int n, int d)
    {
        double largest = 0;
        Span<double> row = d <= 256 ? stackalloc double[d] : new double[d];
        for (int i = 0; i < n; i++)
        {
            row.Clear();
            for (int k = 0; k < d; k++)
            {
                double value = a[(i * d) + k];
                for (int j = 0; j < d; j++)
                {
                    row[j] += value * x[(k * d) + j];
                }
            }

            largest = Math.Max(largest, Largest(row));
        }

        return largest;
    }

    /// <summary>An instance's reference while its trials run, or why there is none; with Rows, their dQ and F. The outputs have every gradient
    /// where a trial asks for all.</summary>
    private readonly record struct Reference(
        double[][]? Gradients, double[][] Forwards, double Loss, double MaxLogit, double RmsLogit, string? Missed, int[]? Rows,
        GradientOutput<double>[] Outputs)
    {
        public static Reference Missing(string reason) => new(null, [], double.NaN, double.NaN, double.NaN, reason, null, []);
    }
}
