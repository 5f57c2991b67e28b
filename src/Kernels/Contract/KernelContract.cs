using System.Diagnostics;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Contract;

/// <summary>A kernel does not keep the contract. The message says on which instance and by how much.</summary>
public sealed class ContractException(string message) : Exception(message);

/// <param name="Rule">What was asked of the kernel, as a claim.</param>
/// <param name="Holds">Whether it kept it.</param>
/// <param name="Detail">What was measured, or what broke.</param>
public sealed record ContractResult(string Rule, bool Holds, string Detail);

/// <summary>What every kernel must do, in every precision, at every vector width: the suite that the built-in kernels are held
/// to, and a user's own by <c>experiments kernels check</c>.</summary>
/// <remarks>
/// Seeds are fixed: the same kernel sees the same instances in every run. A shape at which <see cref="IGradientKernel.Predict"/>
/// refuses the settings is left out; so is, for a kernel that does not claim to be exact, an instance on which it fails with a
/// reason. Every method throws <see cref="ContractException"/> when the rule is broken.
/// </remarks>
public static partial class KernelContract
{
    /// <summary>How long after a cancellation a kernel may still run.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    // Names that a sweep file gives a meaning of its own.
    private static readonly string[] Taken =
    [
        "kernel", "family", "n", "d", "bound", "repeats", "scale", "mask", "heads", "batch", "precision", "threads", "pin", "gradients", "where", "zip",
        "rank",
    ];

    private static readonly string[] Matrices = ["a1", "a2", "a3", "e", "x", "y"];

    /// <summary>Every rule in turn, each as it is found.</summary>
    /// <param name="patience">How long a cancelled call may run on; <see cref="Patience"/> when null.</param>
    public static IEnumerable<ContractResult> Check(
        IGradientKernel kernel, Settings settings, TimeSpan? patience = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        ArgumentNullException.ThrowIfNull(settings);
        double[] logits = [1e-3, 1, 30, 1e4];
        (string Rule, Func<string> Run)[] rules =
        [
            ("its name and axes can stand in a sweep file", () => Names(kernel)),
            ("it predicts its cost", () => Predicts(kernel, settings)),
            .. kernel.IsExact
                ? (ReadOnlySpan<(string, Func<string>)>)
                [
                    ("it is exact in float64, as it claims", () => Exact<double>(kernel, settings, logits, 40, cancellation)),
                    ("it is exact in float32, as it claims", () => Exact<float>(kernel, settings, logits, 40, cancellation)),
                ]
                :
                [
                    ("it gives numbers or a reason in float64", () => Approximate<double>(kernel, settings, 20, cancellation)),
                    ("it gives numbers or a reason in float32", () => Approximate<float>(kernel, settings, 20, cancellation)),
                ],
            ("it repeats its bits, writes all of its output and none of its input", () => Repeatable(kernel, settings, cancellation)),
            ("its bits do not depend on the number of threads", () => Deterministic(kernel, settings, cancellation)),
            ("it answers NaN and infinity with a KernelFailure", () => RefusesNonFinite(kernel, settings, cancellation)),
            ("it answers overflow with a KernelFailure", () => RefusesOverflow(kernel, settings, cancellation)),
            ("it stops when it is cancelled", () => Cancels(kernel, settings, patience ?? Patience)),
        ];
        foreach ((string rule, Func<string> run) in rules)
        {
            cancellation.ThrowIfCancellationRequested();
            ContractResult result;
            try
            {
                result = new(rule, true, run());
            }
            catch (ContractException broken)
            {
                result = new(rule, false, broken.Message);
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                throw;
            }
            catch (Exception fault) when (fault is not OutOfMemoryException)
            {
                result = new(rule, false, $"it threw {fault.GetType().Name}: {fault.Message}");
            }

            yield return result;
        }
    }

    /// <summary>Settings to try a kernel or a family with where a person names none: each axis' default, or its least value, or
    /// its first word. Axes that do not apply are left out, as in a trial.</summary>
    /// <param name="axes">The kernel's or the family's.</param>
    /// <param name="given">What a person named.</param>
    /// <exception cref="ArgumentException">An axis that must be named has none of these, such as a file's name.</exception>
    public static Settings Usual(IReadOnlyList<Axis> axes, IReadOnlyDictionary<string, object> given)
    {
        ArgumentNullException.ThrowIfNull(axes);
        ArgumentNullException.ThrowIfNull(given);
        Dictionary<string, object> values = new(given);
        foreach (Axis axis in axes.Where(a => !values.ContainsKey(a.Name)))
        {
            object? usual = axis.Default ?? (!axis.Required ? null : axis.Kind switch
            {
                AxisKind.Integer when double.IsFinite(axis.Minimum) => (long)axis.Minimum,
                AxisKind.Real when double.IsFinite(axis.Minimum) => axis.Minimum,
                AxisKind.Choice when axis.Choices is { Count: > 0 } words => words[0],
                AxisKind.Flag => false,
                _ => throw new ArgumentException($"{axis.Name} must be given: {axis.Summary}"),
            });
            if (usual is not null)
            {
                values[axis.Name] = usual is int whole ? (long)whole : usual;
            }
        }

        foreach (Axis axis in axes)
        {
            if (axis.AppliesTo is (string other, IReadOnlyList<string> words)
                && values.GetValueOrDefault(other) is string word && !words.Contains(word))
            {
                values.Remove(axis.Name);
            }
        }

        return new Settings(values);
    }

    /// <summary>Holds names, axes and defaults to what a sweep file can say.</summary>
    public static string Names(IGradientKernel kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        Require(KernelName().IsMatch(kernel.Name ?? ""),
            $"its name is '{kernel.Name}'; lower case, digits and hyphens are needed, such as my-kernel");
        Require(!string.IsNullOrWhiteSpace(kernel.Summary), "its Summary is empty; one sentence is needed");
        Axes(kernel.Axes);
        return $"{kernel.Name}, {kernel.Axes.Count} {(kernel.Axes.Count == 1 ? "axis" : "axes")}";
    }

    internal static void Axes(IReadOnlyList<Axis> axes)
    {
        HashSet<string> seen = [];
        foreach (Axis axis in axes)
        {
            Require(AxisName().IsMatch(axis.Name ?? ""),
                $"an axis is called '{axis.Name}'; lower case, digits and underscores are needed, such as half_width");
            Require(!Taken.Contains(axis.Name), $"an axis is called '{axis.Name}', which means something else in a sweep file");
            Require(seen.Add(axis.Name!), $"two axes are called '{axis.Name}'");
            Require(!string.IsNullOrWhiteSpace(axis.Summary), $"axis {axis.Name} has no Summary; one sentence is needed");
            bool fits = axis.Default switch
            {
                null => true,
                long or int => axis.Kind is AxisKind.Integer or AxisKind.Real && InRange(Convert.ToDouble(axis.Default, CultureInfo.InvariantCulture)),
                double real => axis.Kind == AxisKind.Real && InRange(real),
                string word => axis.Kind == AxisKind.Choice && (axis.Choices?.Contains(word) ?? true),
                bool => axis.Kind == AxisKind.Flag,
                _ => false,
            };
            Require(fits, $"axis {axis.Name} has the default {axis.Default}, which is no value of it");

            bool InRange(double value) => value >= axis.Minimum && value <= axis.Maximum;
        }
    }

    /// <summary>Holds the prediction to finite numbers that do not shrink as n grows.</summary>
    public static string Predicts(IGradientKernel kernel, Settings settings)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        KernelCost last = default;
        foreach (int bytes in (int[])[4, 8])
        {
            double before = 0;
            foreach (int n in (int[])[64, 256, 1024, 4096])
            {
                KernelCost cost = kernel.Predict(n, 8, bytes, 2, settings);
                string where = $"n = {n}, d = 8";
                Require(double.IsFinite(cost.Flops) && cost.Flops > 0, $"it predicts {cost.Flops} operations at {where}");
                Require(double.IsFinite(cost.StateBytes) && cost.StateBytes >= 0, $"it predicts {cost.StateBytes} bytes at {where}");
                Require(cost.Rank is null or >= 1, $"it predicts the rank {cost.Rank} at {where}");
                Require(cost.Flops >= before, $"it predicts fewer operations at {where} than at a quarter of the tokens");
                before = cost.Flops;
                last = cost;
            }
        }

        return string.Create(CultureInfo.InvariantCulture,
            $"{last.Flops:G3} operations and {last.StateBytes:G3} bytes at n = 4096, d = 8");
    }

    /// <summary>Holds a kernel that claims the exact gradient to it: at most twice the error of plain code and a floor of
    /// rounding, over random shapes that cross every vector width and remainder, with logits from tiny to huge.</summary>
    /// <param name="logits">Sizes of the largest |logit| to choose among.</param>
    /// <param name="instances">How many instances.</param>
    public static string Exact<T>(
        IGradientKernel kernel, Settings settings, double[] logits, int instances, CancellationToken cancellation = default)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(kernel);
        ArgumentNullException.ThrowIfNull(logits);
        double ulp = Ulp<T>(), worst = 0;
        ReferenceGradient reference = new();
        foreach ((int seed, int n, int d, int pick) in Shapes(kernel, settings, instances))
        {
            double logit = logits[pick % logits.Length];
            AttentionProblem<double> drawn = RandomProblem.Draw(seed, n, d, logit);

            // Every other instance has the scale of transformers, every third a mask where the kernel takes one.
            LogitScale scale = seed % 2 == 0 ? LogitScale.D : LogitScale.SqrtD;
            logit *= d / (scale == LogitScale.D ? d : Math.Sqrt(d));
            AttentionProblem<T> problem = new AttentionProblem<double>(
                n, d, drawn.A1, drawn.A2, drawn.A3, drawn.E, drawn.X, drawn.Y)
            {
                Scale = scale,
                Causal = kernel.TakesMask && seed % 3 == 0,
            }.To<T>();
            AttentionProblem<double> wide = problem.To<double>();
            string where = Text($"n = {n}, d = {d}, scale {scale}, largest logit {logit:G4}, seed {seed}")
                + (problem.Causal ? ", causal" : "");

            // All see the same rounded numbers; gold and floor are computed in more digits. A logit of size L is off by a few
            // ulp of L, which is the gradient's relative error to first order.
            GradientOutput<double> gold = AllOf<double>(n, d);
            reference.Compute(wide, Settings.None, gold, new(cancellation));
            double floor = ulp * 4 * (20 + logit);
            GradientOutput<T> plain = PlainGradient.Compute(problem), output = Run(kernel, problem, settings, 1, cancellation);
            foreach ((string what, T[] ours, T[] typed, double[] right, double least) in Compared(wide, output, plain, gold))
            {
                // Below that float32 has not all of its digits.
                if (right.Max(Math.Abs) is > 0 and < 1e-30)
                {
                    continue;
                }

                double error = RandomProblem.Error(ours, right, least), usual = RandomProblem.Error(typed, right, least);
                double bar = (2 * usual) + floor;
                Require(error <= bar,
                    Text($"{what} is off by {error:G3} where plain code is off by {usual:G3} and {bar:G3} is allowed, at {where}"));
                worst = Math.Max(worst, error / bar);
            }

            LossIsOfForward(problem, output, where);
        }

        return Text($"{instances} instances; at worst {worst:P0} of the error allowed");
    }

    /// <summary>Holds a kernel that claims no exactness to finite numbers, or a <see cref="KernelFailure"/> that says why not,
    /// and reports its error.</summary>
    public static string Approximate<T>(
        IGradientKernel kernel, Settings settings, int instances, CancellationToken cancellation = default)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(kernel);
        List<double> errors = [];
        int tried = 0, failed = 0;
        foreach ((int seed, int n, int d, int pick) in Shapes(kernel, settings, instances))
        {
            double logit = ((double[])[0.1, 1, 30])[pick % 3];
            AttentionProblem<T> problem = RandomProblem.Draw(seed, n, d, logit).To<T>();
            string where = Text($"n = {n}, d = {d}, largest logit {logit}, seed {seed}");
            tried++;
            GradientOutput<T> output;
            try
            {
                output = Run(kernel, problem, settings, 1, cancellation);
            }
            catch (KernelFailure failure)
            {
                Require(!string.IsNullOrWhiteSpace(failure.Message), $"it fails without a reason at {where}");
                failed++;
                continue;
            }

            foreach ((string what, T[] values) in Gradients(output))
            {
                foreach (T value in values)
                {
                    Require(T.IsFinite(value), $"an entry of {what} is {value} at {where}; it should fail with a reason");
                }
            }

            Require(double.IsFinite(output.Loss), $"the loss is {output.Loss} at {where}; it should fail with a reason");
            LossIsOfForward(problem, output, where);
            if (n > 1 && logit <= 1)
            {
                GradientOutput<double> gold = new(n, d);
                new ExactGradient().Compute(problem.To<double>(), Settings.None, gold, new(cancellation));
                errors.Add(RandomProblem.Error(output.DX, gold.DX, PlainGradient.LeastScale(problem.To<double>())));
            }
        }

        Require(failed < tried, $"it fails on each of {tried} instances");
        errors.Sort();
        string error = errors.Count == 0 ? "" : Text($"; median relative error {errors[errors.Count / 2]:G2} where logits are at most 1");
        return $"{tried} instances" + (failed == 0 ? "" : $", {failed} failed with a reason") + error;
    }

    /// <summary>Holds a second call, into an output full of rubbish, to the bits of the first, and the inputs to what they were.</summary>
    public static string Repeatable(IGradientKernel kernel, Settings settings, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        int compared = 0;
        foreach ((int seed, int n, int d, _) in Shapes(kernel, settings, 8))
        {
            Compare(RandomProblem.Draw(seed, n, d, 0.5));
            Compare(RandomProblem.Draw(seed, n, d, 0.5).To<float>());

            void Compare<T>(AttentionProblem<T> problem)
                where T : unmanaged, IBinaryFloatingPointIeee754<T>
            {
                string where = $"n = {n}, d = {d}, seed {seed}, {Precision<T>()}";
                T[][] inputs = [problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y];
                T[][] before = [.. inputs.Select(m => (T[])m.Clone())];
                if (TryRun(kernel, problem, settings, 1, cancellation) is not GradientOutput<T> first)
                {
                    return;
                }

                GradientOutput<T> second = Output<T>(kernel, n, d);
                second.Loss = double.NaN;
                Array.Fill(second.Forward, T.NaN);
                foreach ((_, T[] values) in Gradients(second))
                {
                    Array.Fill(values, T.NaN);
                }

                kernel.Compute(problem, settings, second, new(cancellation));
                foreach (((string what, T[] values), (_, T[] others)) in Gradients(first).Zip(Gradients(second)))
                {
                    Require(values.AsSpan().SequenceEqual(others), $"a second call gives another {what} at {where}");
                }

                Require(first.Forward.AsSpan().SequenceEqual(second.Forward), $"a second call gives another forward output at {where}");
                Require(first.Loss.Equals(second.Loss), $"a second call gives another loss at {where}");
                for (int m = 0; m < inputs.Length; m++)
                {
                    Require(inputs[m].AsSpan().SequenceEqual(before[m]), $"it writes into {Matrices[m]} at {where}");
                }

                compared++;
            }
        }

        Require(compared > 0, "it fails on every instance");
        return $"{compared} instances";
    }

    /// <summary>Holds every bit of the output to be the same with 1, 2, 3 and 5 threads, and each problem of several (heads and
    /// batch) to have the bits that it has alone.</summary>
    public static string Deterministic(IGradientKernel kernel, Settings settings, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        int compared = 0;
        foreach ((int n, int d, double logit) in ((int, int, double)[])[(65, 4, 0.5), (300, 3, 0.5), (500, 5, 0.5), (130, 4, 40)])
        {
            if (!Feasible(kernel, settings, n, d))
            {
                continue;
            }

            bool causal = kernel.TakesMask && (n is 300 or 130);
            AttentionProblem<double>[] parts =
                [.. Enumerable.Range(0, n < 100 ? 3 : 1).Select(p => RandomProblem.Draw(n + p, n, d, logit).With(LogitScale.D, causal))];
            Compare(parts);
            Compare([.. parts.Select(p => p.To<float>())]);

            void Compare<T>(AttentionProblem<T>[] parts)
                where T : unmanaged, IBinaryFloatingPointIeee754<T>
            {
                string where = Text($"n = {n}, d = {d}, largest logit {logit}, {Precision<T>()}");
                GradientOutput<T>[] alone = [.. parts.Select(_ => AllOf<T>(n, d))];
                try
                {
                    for (int part = 0; part < parts.Length; part++)
                    {
                        kernel.Compute(parts[part], settings, alone[part], new(cancellation));
                    }
                }
                catch (KernelFailure) when (!kernel.IsExact)
                {
                    return;
                }

                foreach (int threads in (int[])[2, 3, 5])
                {
                    GradientOutput<T> other = AllOf<T>(n, d);
                    kernel.Compute(parts[0], settings, other, new(cancellation, threads));
                    SameBits(alone[0], other, $"with {threads} threads than with 1, at {where}");
                }

                foreach (int threads in parts.Length == 1 ? (int[])[] : [1, 2, 3, 5])
                {
                    GradientOutput<T>[] together = [.. parts.Select(_ => AllOf<T>(n, d))];
                    GradientCall.Compute(kernel, parts, settings, together, new(cancellation, threads));
                    for (int part = 0; part < parts.Length; part++)
                    {
                        SameBits(alone[part], together[part], $"as one of three problems on {threads} threads than alone, at {where}");
                    }
                }

                compared++;
            }
        }

        Require(compared > 0, "it fails on every instance");
        return $"{compared} instances with 1, 2, 3 and 5 threads, alone and as one of three problems";
    }

    /// <summary>Holds NaN and infinities, in any matrix, to come out as a <see cref="KernelFailure"/>, which
    /// <see cref="GradientCall"/> lets name the entry.</summary>
    public static string RefusesNonFinite(IGradientKernel kernel, Settings settings, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        int n = ((int[])[13, 64, 256]).FirstOrDefault(n => Feasible(kernel, settings, n, 3));
        Require(n > 0, "it refuses n = 13, 64 and 256 at d = 3");
        foreach (double bad in (double[])[double.NaN, double.PositiveInfinity, double.NegativeInfinity])
        {
            for (int matrix = 0; matrix < 6; matrix++)
            {
                // First, last and inside, of the matrix and of its rows.
                int rows = matrix < 4 ? n : 3;
                foreach (int entry in (int[])[0, 4, (rows / 2 * 3) + 2, (3 * rows) - 3, (3 * rows) - 1])
                {
                    AttentionProblem<double> problem = RandomProblem.Draw(3, n, 3, 0.5);
                    double[][] all = [problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y];
                    all[matrix][entry] = bad;
                    string place = $"{Matrices[matrix]}[{entry / 3}, {entry % 3}]";
                    Refuses(problem, place, Text($"{bad} in {place}"));
                    Refuses(problem.To<float>(), place, Text($"{bad} in {place}, float32"));
                    if (kernel.TakesMask)
                    {
                        Refuses(problem.With(LogitScale.D, causal: true), place, Text($"{bad} in {place}, causal"));
                    }
                }
            }
        }

        return "NaN and both infinities in five entries of each of six matrices, both precisions";

        void Refuses<T>(AttentionProblem<T> problem, string place, string where)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            try
            {
                GradientCall.Compute(kernel, [problem], settings, [new GradientOutput<T>(n, 3)], new(cancellation));
            }
            catch (KernelFailure failure)
            {
                Require(failure.Message.Contains(place, StringComparison.Ordinal), $"its failure does not name the entry for {where}: {failure.Message}");
                return;
            }

            throw new ContractException($"it returns a gradient for {where}; KernelFailure is needed");
        }
    }

    /// <summary>Holds finite inputs whose logits, values or loss leave the range of the precision to come out as a
    /// <see cref="KernelFailure"/>, or, from a kernel that claims the exact gradient, as the right one.</summary>
    public static string RefusesOverflow(IGradientKernel kernel, Settings settings, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        int n = ((int[])[13, 64, 256]).FirstOrDefault(n => Feasible(kernel, settings, n, 3)), refused = 0, right = 0;
        Require(n > 0, "it refuses n = 13, 64 and 256 at d = 3");
        for (int seed = 0; seed < 4; seed++)
        {
            foreach ((string what, int[] large) in ((string, int[])[])[
                ("a1 and a2", [0, 1]), ("a1 and x", [0, 4]), ("a3 and y", [2, 5]), ("e", [3])])
            {
                AttentionProblem<double> problem = RandomProblem.Draw(seed, n, 3, 0.5);
                double[][] all = [problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y];
                foreach (int matrix in large)
                {
                    RandomProblem.Scale(all[matrix], 1e200);
                }

                Judge(problem, what);
                foreach (int matrix in large)
                {
                    RandomProblem.Scale(all[matrix], 1e-170);
                }

                if (what != "e")
                {
                    // Residuals of 1e30 are in float32's range, and their squares in double's, in which losses are summed.
                    Judge(problem.To<float>(), what);
                }
            }
        }

        return $"{refused} refused" + (right == 0 ? "" : $", {right} right all the same");

        void Judge<T>(AttentionProblem<T> problem, string what)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            string where = $"entries of {what} near {(typeof(T) == typeof(float) ? "1e30" : "1e200")}, {Precision<T>()}";
            GradientOutput<T> output;
            try
            {
                output = Run(kernel, problem, settings, 1, cancellation);
            }
            catch (KernelFailure)
            {
                refused++;
                return;
            }

            Require(kernel.IsExact, $"it returns a gradient for {where}; KernelFailure is needed");
            GradientOutput<double> gold = new(n, 3);
            new ReferenceGradient().Compute(problem.To<double>(), Settings.None, gold, new(cancellation));
            double error = RandomProblem.Error(output.DX, gold.DX);
            Require(error < 1e-3, Text($"the gradient is off by {error:G3} for {where}; KernelFailure is needed where it cannot be right"));
            right++;
        }
    }

    /// <summary>Holds a call to stop within <paramref name="patience"/> of its token's cancellation.</summary>
    public static string Cancels(IGradientKernel kernel, Settings settings, TimeSpan patience)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        (int n, int d) = Feasible(kernel, settings, 8192, 8) ? (8192, 8) : (1024, 4);
        AttentionProblem<double> problem = RandomProblem.Unscaled(8, n, d);
        RandomProblem.Scale(problem.A1, 0.1);
        GradientOutput<double> output = new(n, d);
        using (CancellationTokenSource cancelled = new())
        {
            cancelled.Cancel();
            (bool ran, TimeSpan took) = Call(cancelled.Token);
            Require(!ran,
                "a call whose token is cancelled from the start runs to its end; look at it at least once");
            Require(took <= patience, Late(took));
        }

        TimeSpan delay = TimeSpan.FromMilliseconds(50);
        using CancellationTokenSource later = new(delay);
        (bool finished, TimeSpan whole) = Call(later.Token);
        Require(whole - delay <= patience, Late(whole - delay));
        return finished ? Text($"a call at n = {n} was done before it was cancelled") : $"at n = {n}, in time";

        // A kernel may also look at the data first and refuse them.
        (bool Finished, TimeSpan Took) Call(CancellationToken token)
        {
            long start = Stopwatch.GetTimestamp();
            try
            {
                kernel.Compute(problem, settings, output, new(token, 2));
                return (true, Stopwatch.GetElapsedTime(start));
            }
            catch (Exception stopped) when (stopped is OperationCanceledException or KernelFailure)
            {
                return (false, Stopwatch.GetElapsedTime(start));
            }
        }

        string Late(TimeSpan took) => Text($"it runs on for {took.TotalSeconds:F1} s after it was cancelled, at n = {n}, d = {d}; ")
            + Text($"{patience.TotalSeconds:F1} s is allowed: look at the context's token every few milliseconds");
    }

    // Cross one, two and four vectors of either type, their remainders, and a few tiles of keys.
    private static IEnumerable<(int Seed, int N, int D, int Pick)> Shapes(IGradientKernel kernel, Settings settings, int instances)
    {
        int found = 0;
        for (int i = 0; found < instances && i < 20 * instances; i++)
        {
            Random random = new(1000 + i);
            int n = random.Next(10) == 0 ? random.Next(129, 301) : random.Next(1, 71);
            int d = n > 100 ? random.Next(1, 4) : random.Next(1, 14);
            if (Feasible(kernel, settings, n, d))
            {
                found++;
                yield return (random.Next(), n, d, i);
            }
        }

        Require(found > 0, "Predict refuses every shape with these settings; name others");
    }

    private static bool Feasible(IGradientKernel kernel, Settings settings, int n, int d)
    {
        try
        {
            kernel.Predict(n, d, 8, 1, settings);
            return true;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    private static GradientOutput<T> Run<T>(
        IGradientKernel kernel, AttentionProblem<T> problem, Settings settings, int threads, CancellationToken cancellation)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<T> output = Output<T>(kernel, problem.N, problem.D);
        kernel.Compute(problem, settings, output, new(cancellation, threads));
        return output;
    }

    // An approximate kernel may fail with a reason.
    private static GradientOutput<T>? TryRun<T>(
        IGradientKernel kernel, AttentionProblem<T> problem, Settings settings, int threads, CancellationToken cancellation)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        try
        {
            return Run(kernel, problem, settings, threads, cancellation);
        }
        catch (KernelFailure) when (!kernel.IsExact)
        {
            return null;
        }
    }

    /// <summary>With room for all that the kernel says it gives.</summary>
    private static GradientOutput<T> Output<T>(IGradientKernel kernel, int n, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => kernel.GivesAll ? AllOf<T>(n, d) : new(n, d);

    /// <summary>Those that there is room for.</summary>
    private static IEnumerable<(string What, T[] Values)> Gradients<T>(GradientOutput<T> output)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new (string What, T[]? Values)[] { ("dX", output.DX), ("dY", output.DQ is null ? null : output.DY), ("dQ", output.DQ), ("dK", output.DK), ("dV", output.DV) }
            .Where(g => g.Values is not null).Select(g => (g.What, g.Values!));

    /// <summary>Each gradient that the kernel gives beside that of plain code and the right one, and what its error is held against at least.</summary>
    private static (string What, T[] Ours, T[] Plain, double[] Right, double Least)[] Compared<T>(
        AttentionProblem<double> problem, GradientOutput<T> output, GradientOutput<T> plain, GradientOutput<double> gold)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        (string, T[], T[], double[], double) ofX = ("dX", output.DX, plain.DX, gold.DX, PlainGradient.LeastScale(problem));
        if (output.DQ is null)
        {
            return [ofX];
        }

        GradientTerms terms = GradientTerms.Of(problem);
        return
        [
            ofX,
            ("dY", output.DY, plain.DY, gold.DY, terms.DY / 16),
            ("dQ", output.DQ, plain.DQ!, gold.DQ!, terms.DQ / 16),
            ("dK", output.DK!, plain.DK!, gold.DK!, terms.DK / 16),
            ("dV", output.DV!, plain.DV!, gold.DV!, terms.DV / 16),
        ];
    }

    private static GradientOutput<T> AllOf<T>(int n, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new(n, d) { DQ = new T[n * d], DK = new T[n * d], DV = new T[n * d] };

    private static void SameBits<T>(GradientOutput<T> one, GradientOutput<T> other, string where)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Same(one.DX, other.DX, "dX");
        Same(one.DY, other.DY, "dY");
        Same(one.DQ!, other.DQ!, "dQ");
        Same(one.DK!, other.DK!, "dK");
        Same(one.DV!, other.DV!, "dV");
        Same(one.Forward, other.Forward, "the forward output");
        Same([one.Loss, one.MinRowSumOverN], [other.Loss, other.MinRowSumOverN], "the loss, or the least row sum,");

        void Same<TNumber>(TNumber[] values, TNumber[] others, string what)
            where TNumber : unmanaged =>
            Require(
                MemoryMarshal.AsBytes<TNumber>(values).SequenceEqual(MemoryMarshal.AsBytes<TNumber>(others)),
                $"{what} has other bits {where}");
    }

    private static void LossIsOfForward<T>(AttentionProblem<T> problem, GradientOutput<T> output, string where)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double loss = 0, size = 0;
        for (int i = 0; i < output.Forward.Length; i++)
        {
            double forward = double.CreateTruncating(output.Forward[i]), e = double.CreateTruncating(problem.E[i]);
            loss += (forward - e) * (forward - e) / 2;
            size += (forward * forward) + (e * e);
        }

        Require(Math.Abs(loss - output.Loss) <= 64 * Ulp<T>() * size,
            Text($"Loss is {output.Loss:G6} but half the squared distance of Forward from E is {loss:G6}, at {where}"));
    }

    private static double Ulp<T>() => typeof(T) == typeof(float) ? Math.ScaleB(1, -23) : Math.ScaleB(1, -52);

    private static string Precision<T>() => typeof(T) == typeof(float) ? "float32" : "float64";

    private static string Text(FormattableString text) => FormattableString.Invariant(text);

    private static void Require(bool holds, string broken)
    {
        if (!holds)
        {
            throw new ContractException(broken);
        }
    }

    [GeneratedRegex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
    private static partial Regex KernelName();

    [GeneratedRegex("^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
    private static partial Regex AxisName();
}
