using System.Numerics;
using Experiments.Grains.Running;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Tests;

/// <summary>Kernels and a family that do on purpose what real ones do by accident.</summary>
internal static class TestWorkbench
{
    public static Workbench With(params IGradientKernel[] kernels) =>
        new([.. kernels, .. kernels.Any(k => k.Name == "exact") ? [] : new IGradientKernel[] { new Fake("exact") }], [new Small()]);

    public static TrialSpec Trial(string kernel, string precision = "float64", int threads = 1, params (string, object)[] settings) =>
        new(kernel, precision, threads, settings.ToDictionary(s => s.Item1, s => s.Item2));

    public static InstanceSpec Instance(int repeat = 0, int n = 8, int d = 2) =>
        new("small", n, d, null, repeat, 1, new Dictionary<string, object>(), new Dictionary<string, object>());

    public static SweepPlan Plan(IReadOnlyList<TrialSpec> trials, Measure? measure = null, Limits? limits = null, int n = 8) => new(
        1,
        measure ?? new Measure { Rounds = 3, MinTime = TimeSpan.Zero, MaxNoise = 0 },
        limits ?? new Limits { MemoryBytes = 1L << 30 },
        i => new InstancePlan(i, Instance((int)i, n), trials));

    public static Ran Run(
        Workbench workbench, SweepPlan plan, int instances = 1, IReadOnlySet<long>? stored = null,
        IReferenceLibrary? references = null, int? trials = null, IFileLibrary? files = null)
    {
        using ComputePool pool = new(1);
        using MemoryBudget memory = new(1L << 32);
        int each = trials ?? plan.At(0)!.Trials.Count;
        OutcomeList outcomes = [];
        ShardRun run = new(
            plan, new ShardLease(1, 0, 1, 0, instances, 100, instances * each, 0), stored ?? new HashSet<long>(), outcomes, CancellationToken.None);
        ShardRunner runner = new(workbench, memory, references ?? new NoReferences(), files ?? new InPlace(), TimeProvider.System);
        return new Ran(outcomes, runner.Run(run, pool.Lanes[0]));
    }

    /// <summary>What a shard came to, and what is committed beside it.</summary>
    public sealed record Ran(IReadOnlyList<TrialOutcome> Outcomes, ShardResult Result);

    /// <summary>A family whose entries count up from the key; 'poison' puts a NaN in.</summary>
    public sealed class Small(bool poison = false) : IInstanceFamily
    {
        public string Name => "small";

        public string Summary => "A few numbers.";

        public IReadOnlyList<Axis> Axes { get; init; } = [];

        public bool NeedsBound => false;

        public AttentionProblem<double> Draw(InstanceRequest request)
        {
            double Next(int i) => ((request.Key + (ulong)i) % 97 / 97.0) - 0.5;
            double[] Matrix(int rows, int from) =>
                [.. Enumerable.Range(from, rows * request.D).Select(Next)];
            double[] a1 = Matrix(request.N, 1);
            a1[3] = poison ? double.NaN : a1[3];
            return new(
                request.N, request.D, a1, Matrix(request.N, 2), Matrix(request.N, 3), Matrix(request.N, 4),
                Matrix(request.D, 5), Matrix(request.D, 6));
        }
    }

    public sealed class InPlace : IFileLibrary
    {
        public LocatedFiles Locate(InstanceSpec instance, CancellationToken cancellation) => LocatedFiles.InPlace;
    }

    public sealed class NoReferences : IReferenceLibrary
    {
        public ReferenceRecord? Find(Guid instanceKey, CancellationToken cancellation) => null;
    }

    /// <summary>Writes a gradient made from the inputs, and does before it what <paramref name="act"/> says.</summary>
    public sealed class Fake(string name, Action<int, KernelContext>? act = null) : IGradientKernel
    {
        private int _calls;

        public string Name => name;

        public string Summary => "For tests.";

        public IReadOnlyList<Axis> Axes { get; init; } = [];

        public double StateBytes { get; init; } = 1000;

        public double Flops { get; init; } = 1000;

        /// <summary>Added to every entry of the gradient.</summary>
        public double Off { get; init; }

        public double ExpError { get; init; } = double.NaN;

        public bool WritesGradient { get; init; } = true;

        /// <summary>Says that it gives dQ, dK and dV, of which it writes none.</summary>
        public bool GivesAll { get; init; }

        public long NonPositive { get; init; }

        /// <summary>Told of each call, and whether it was asked for dQ.</summary>
        public Action<KernelContext, bool>? Called { get; init; }

        public int Calls => _calls;

        public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) =>
            new(Flops, StateBytes, null);

        public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            act?.Invoke(Interlocked.Increment(ref _calls), context);
            Called?.Invoke(context, output.DQ is not null);
            context.Phase?.Invoke("project");
            context.Phase?.Invoke("rows");
            if (WritesGradient)
            {
                for (int i = 0; i < output.DX.Length; i++)
                {
                    output.DX[i] = problem.X[i] + problem.Y[i] + T.CreateTruncating(Off);
                }
            }

            for (int i = 0; i < output.Forward.Length; i++)
            {
                output.Forward[i] = problem.A3[i];
            }

            output.Loss = 2;
            output.PredictedExpError = ExpError;
            output.NonPositiveRowSums = NonPositive;
            context.Phase?.Invoke("reduce");
        }
    }
}
