using System.CommandLine;
using System.Diagnostics;
using System.Numerics;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using Experiments.Kernels.Numbers;
using Experiments.Results.Sweeps;

namespace Experiments.Client.Verbs;

/// <summary>One gradient of the user's own matrices; needs no store.</summary>
internal static class GradientVerb
{
    // Larger gradients are for --output: at d = 64 the JSON is 4096 numbers.
    private const int LargestPrinted = 64;

    // Up to here the textbook reference, n × n in memory, is quick; beyond, the exact kernel in float64 stands in for it.
    private const int LargestReference = 2048;

    // A first call pays for compilation; calls go on until this much was measured.
    private static readonly TimeSpan Measured = TimeSpan.FromMilliseconds(200);

    public static Command Create(Terminal terminal)
    {
        Option<string> inputs = new("--inputs")
        {
            HelpName = "DIR", Required = true,
            Description = "Folder of a1.npy, a2.npy, a3.npy, e.npy (n, d) and x.npy, y.npy (d, d): float32 or float64, C order. Of shape "
                + "(batch, n, d) or (batch, heads, n, d) they are so many problems, computed in one call",
        };
        Option<string> kernel = Word("--kernel", "NAME", "Which kernel; 'experiments kernels' lists them");
        kernel.Required = true;
        kernel.CompletionSources.Add([.. BuiltIn.Kernels.Select(k => k.Name)]);
        Option<string> precision = Word("--precision", "float32|float64", "Default: the widest of the files");
        precision.CompletionSources.Add("float32", "float64");
        Option<string> degree = Word("--degree", "G", "Degree of the polynomial (low-rank)");
        Option<string> basis = Word("--basis", "NAME", "Where the polynomial's coefficients come from (low-rank)");
        Option<string> form = Word("--form", "paper|reverse", "The exact formula with exp replaced, or the gradient of the approximated loss (low-rank)");
        Option<string> radius = Word("--radius", "R", "Largest |logit| to fit the polynomial for (low-rank); default: from the data");
        Option<string> centred = Word("--centred", "true|false", "Whether the mean key is subtracted first (low-rank)");
        Option<string[]> set = new("--set")
        {
            HelpName = "AXIS=VALUE", Description = "Any other axis of the kernel, such as features=256; may be repeated",
            DefaultValueFactory = _ => [],
        };
        Option<int?> threads = SweepOptions.Integer("--threads", "N", "Threads of the call; default: every core", 1, 4096);
        Option<bool> pin = new("--pin") { Description = "Keep each thread on a core of its own (Linux)" };
        Option<string> scale = Word("--scale", "d|sqrt-d", "What the logits are divided by; default: d");
        scale.CompletionSources.Add("d", "sqrt-d");
        Option<string> mask = Word("--mask", "none|causal", "causal: row i sees keys 0 to i only; default: none");
        mask.CompletionSources.Add("none", "causal");
        Option<string> device = Word("--device", "cpu", "Where to compute");
        Option<string> output = Word("--output", "F.npy", "Write the gradient for X there");
        Option<string> outputs = Word(
            "--outputs", "DIR", "Write every gradient there, for X, Y, Q = A1 X, K = A2 and V = A3 Y, and the forward output: dx, dy, dq, dk, dv, f .npy");
        Option<bool> check = new("--check") { Description = "Compare with the float64 reference" };
        return new Verb("gradient", "Compute one gradient of your own matrices")
        {
            Examples =
            [
                ("experiments gradient --inputs my-matrices --kernel exact --json", "loss and gradient, exactly"),
                ("experiments gradient --inputs my-matrices --kernel low-rank --degree 4 --check", "approximately, with its error"),
                ("experiments gradient --inputs my-matrices --kernel reference --output dx.npy", "by the textbook, into a file"),
                ("experiments gradient --inputs my-heads --kernel exact --scale sqrt-d --mask causal --outputs gradients",
                    "as in a transformer, for Q, K and V too"),
            ],
            Options =
            {
                inputs, kernel, precision, degree, basis, form, radius, centred, set, threads, pin, scale, mask, device, output,
                outputs, check,
                GlobalOptions.Plugins, GlobalOptions.Json,
            },
        }.Runs(terminal, async invocation =>
        {
            if (invocation.Value(device) is string place and not "cpu")
            {
                throw CommandException.Invalid($"--device is '{place}'; this build computes on 'cpu' only.");
            }

            string name = invocation.Value(kernel)!;
            IReadOnlyList<IGradientKernel> kernels = invocation.Workbench.Kernels;
            IGradientKernel chosen = kernels.FirstOrDefault(k => k.Name == name)
                ?? throw CommandException.Invalid(
                    $"--kernel is '{name}'; one of {string.Join(", ", kernels.Select(k => k.Name))} is needed."
                    + NearestName.Hint(name, kernels.Select(k => k.Name)));
            string? typedPrecision = invocation.Value(precision);
            if (typedPrecision is not null and not "float32" and not "float64")
            {
                throw CommandException.Invalid($"--precision is '{typedPrecision}'; float32 or float64 is needed."
                    + NearestName.Hint(typedPrecision, ["float32", "float64"]));
            }

            Dictionary<string, string?> typed = new()
            {
                ["degree"] = invocation.Value(degree),
                ["basis"] = invocation.Value(basis),
                ["form"] = invocation.Value(form),
                ["radius"] = invocation.Value(radius),
                ["centred"] = invocation.Value(centred),
            };
            KernelSettings.Add(typed, invocation.Value(set) ?? []);
            Settings settings = KernelSettings.Read(chosen, typed);
            string folder = invocation.Value(inputs)!;
            if (!Directory.Exists(folder))
            {
                throw CommandException.Invalid($"--inputs '{folder}' is not a folder. "
                    + "It should hold a1.npy, a2.npy, a3.npy, e.npy, x.npy and y.npy.");
            }

            string? file = invocation.Value(output);
            if (file is not null)
            {
                CheckOutput(file, folder);
            }

            string? every = invocation.Value(outputs);
            if (every is not null)
            {
                GradientFiles.CheckFolder(every);
            }

            int used = invocation.Value(threads) ?? Environment.ProcessorCount;
            if (invocation.Value(pin) && Pinning.Refusal(used, Pinning.Cores.Count) is string refusal)
            {
                throw CommandException.Invalid("--" + refusal);
            }

            LogitScale divisor = Choice("--scale", invocation.Value(scale), "d", "sqrt-d") ? LogitScale.SqrtD : LogitScale.D;
            bool causal = Choice("--mask", invocation.Value(mask), "none", "causal");
            NpyProblems files = NpyFolder.OpenStack(folder);
            Request request = new(chosen, settings, used, invocation.Value(pin),
                typedPrecision ?? (files.BytesPerNumber == 4 ? "float32" : "float64"), invocation.Value(check), file, every, files.Stack);

            // By the headers alone: a machine that has no room for the matrices is not to find out by reading them.
            CheckMemory(request, new CallShape(files.N, files.D, files.Count, causal));
            AttentionProblem<double>[] problems = [.. files.Load().Select(p => p.With(divisor, causal))];
            if (request.Precision == "float32")
            {
                await RunAsync<float>(invocation, problems, request);
            }
            else
            {
                await RunAsync<double>(invocation, problems, request);
            }

            return ExitCode.Done;
        });
    }

    private sealed record Request(
        IGradientKernel Kernel, Settings Settings, int Threads, bool Pin, string Precision, bool Check, string? Output, string? Outputs,
        IReadOnlyList<int> Stack);

    /// <summary>Whether the second of two words was typed; the first where none was.</summary>
    private static bool Choice(string option, string? typed, string usual, string other) =>
        typed is null || typed == usual ? false : typed == other ? true : throw CommandException.Invalid(
            $"{option} is '{typed}'; {usual} or {other} is needed." + NearestName.Hint(typed, [usual, other]));

    private static async Task RunAsync<T>(Invocation invocation, AttentionProblem<double>[] inputs, Request request)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AttentionProblem<T>[] problems = [.. inputs.Select(p => p.To<T>())];
        foreach (AttentionProblem<T> problem in problems)
        {
            if (problem.FirstNonFinite() is string fault)
            {
                throw CommandException.Invalid($"In {request.Precision} {fault}. Use --precision float64, or scale the inputs.");
            }
        }

        CallShape shape = new(problems[0].N, problems[0].D, problems.Length, problems[0].Causal);
        KernelCost cost = GradientCall.Predict(
            request.Kernel, shape, request.Precision == "float32" ? 4 : 8, request.Threads, request.Settings);
        Computed<T> computed = await OnItsOwnThread(() => Compute(invocation, inputs, problems, request));
        if (IsAutomatic(request, computed.Facts))
        {
            // The rank above is an upper bound where the kernel chooses its degree; what is shown is the chosen one's.
            cost = GradientCall.Predict(request.Kernel, shape, request.Precision == "float32" ? 4 : 8, request.Threads,
                new Settings(new Dictionary<string, object>(request.Settings.Values) { ["degree"] = (long)computed.Facts.FittedDegree }));
        }

        if (request.Output is string path)
        {
            await AtomicFile.WriteAsync(path, "--output", temporary =>
            {
                NpyFile.Write<T>(temporary, computed.Outputs.SelectMany(o => o.DX).ToArray(), [.. request.Stack, shape.D, shape.D]);
                return Task.CompletedTask;
            });
        }

        IReadOnlyList<string> written = request.Outputs is string folder
            ? await GradientFiles.WriteAsync(folder, computed.Outputs, request.Stack, shape.N, shape.D) : [];
        if (invocation.Json)
        {
            WriteJson(invocation, request, problems[0], cost, computed, written);
        }
        else
        {
            WriteText(invocation, request, problems[0], cost, computed, written);
        }
    }

    /// <summary>Whether the kernel has chosen its degree itself.</summary>
    private static bool IsAutomatic(Request request, CallFacts facts) =>
        double.IsFinite(facts.FittedDegree) && request.Settings.Values.GetValueOrDefault("degree") is string;

    /// <summary>A pinned thread must be nobody else's, and the runtime's own threads are.</summary>
    private static Task<TResult> OnItsOwnThread<TResult>(Func<TResult> work)
    {
        TaskCompletionSource<TResult> done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        new Thread(() =>
        {
            try
            {
                done.SetResult(work());
            }
            catch (Exception fault)
            {
                done.SetException(fault);
            }
        }) { IsBackground = true, Name = "gradient" }.Start();
        return done.Task;
    }

    private sealed record Computed<T>(GradientOutput<T>[] Outputs, CallFacts Facts, double Seconds, Errors? Errors)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        public double Largest { get; } = Outputs.Max(o => o.DX.Max(v => Math.Abs(double.CreateChecked(v))));

        public double Norm { get; } = Math.Sqrt(Outputs.Sum(o => o.DX.Sum(v => double.CreateChecked(v) * double.CreateChecked(v))));
    }

    private static Computed<T> Compute<T>(
        Invocation invocation, AttentionProblem<double>[] inputs, AttentionProblem<T>[] problems, Request request)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        using Pinning.Pinned pinned = request.Pin ? Pinning.Pin(request.Threads) : default;
        (int n, int d) = (problems[0].N, problems[0].D);
        GradientOutput<T>[] results = [.. problems.Select(_ => new GradientOutput<T>(n, d))];
        KernelContext context = new(invocation.Cancellation, request.Threads);
        double seconds = Time(request, problems, results, context);

        // Facts about the logits cost a kernel a pass, and the gradients for Q, K and V as much as the rest: neither must be in its time.
        if (request.Outputs is not null)
        {
            results = [.. problems.Select(_ => GradientFiles.Room<T>(n, d))];
        }

        GradientCall.Compute(request.Kernel, problems, request.Settings, results, context with { Statistics = true });
        Errors? errors = request.Check ? Compare(inputs, results, request.Threads, invocation.Cancellation) : null;
        return new Computed<T>(results, CallFacts.Of(results), seconds, errors);
    }

    private static void WriteJson<T>(
        Invocation invocation, Request request, AttentionProblem<T> first, KernelCost cost, Computed<T> computed, IReadOnlyList<string> written)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        CallFacts facts = computed.Facts;
        JsonObject json = new()
        {
            ["kernel"] = request.Kernel.Name,
            ["precision"] = request.Precision,
            ["settings"] = JsonOutput.Object(request.Settings.Values),
            ["threads"] = request.Threads,
            ["pinned"] = request.Pin,
            ["device"] = "cpu",
            ["n"] = first.N,
            ["d"] = first.D,
            ["stack"] = new JsonArray([.. request.Stack.Select(s => JsonValue.Create(s))]),
            ["scale"] = first.Scale == LogitScale.D ? "d" : "sqrt-d",
            ["mask"] = first.Causal ? "causal" : "none",
            ["loss"] = JsonOutput.Number(facts.Loss),
            ["rank"] = cost.Rank,
            ["seconds"] = computed.Seconds,
            ["max_abs_gradient"] = JsonOutput.Number(computed.Largest),
            ["frobenius_norm_gradient"] = JsonOutput.Number(computed.Norm),
            ["max_logit"] = JsonOutput.Number(facts.MaxLogit),
            ["rms_logit"] = JsonOutput.Number(facts.RmsLogit),
            ["min_row_sum_over_n"] = JsonOutput.Number(facts.MinRowSumOverN),
            ["fitted_radius"] = JsonOutput.Number(facts.FittedRadius),
            ["fitted_degree"] = JsonOutput.Number(facts.FittedDegree),
            ["predicted_exp_error"] = JsonOutput.Number(facts.PredictedExpError),
            ["output"] = request.Output,
            ["outputs"] = new JsonArray([.. written.Select(w => JsonValue.Create(w))]),
        };
        if (computed.Errors is Errors errors)
        {
            json["reference"] = errors.Reference;
            json["gradient_absolute_error"] = JsonOutput.Number(errors.Absolute);
            json["gradient_relative_error"] = JsonOutput.Number(errors.Relative);
            json["loss_relative_error"] = JsonOutput.Number(errors.Loss);
            json["forward_relative_error"] = JsonOutput.Number(errors.Forward);
        }

        if (first.D <= LargestPrinted && computed.Outputs.Length * first.D <= LargestPrinted)
        {
            JsonArray[] gradients = [.. computed.Outputs.Select(o => Rows(o.DX, first.D))];
            json["gradient"] = gradients.Length == 1 && request.Stack.Count == 0 ? gradients[0] : new JsonArray([.. gradients]);
        }

        JsonOutput.Write(invocation.Terminal.Out, json);
    }

    private static JsonArray Rows<T>(T[] matrix, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new([.. Enumerable.Range(0, d).Select(row => new JsonArray(
            [.. Enumerable.Range(0, d).Select(c => JsonOutput.Number(double.CreateChecked(matrix[(row * d) + c])))]))]);

    private static void WriteText<T>(
        Invocation invocation, Request request, AttentionProblem<T> first, KernelCost cost, Computed<T> computed, IReadOnlyList<string> written)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        TextWriter output = invocation.Terminal.Out;
        CallFacts facts = computed.Facts;
        Fact("kernel", request.Kernel.Name + string.Concat(request.Settings.Values
            .OrderBy(s => s.Key, StringComparer.Ordinal).Select(s => $" {s.Key}={Format.Value(s.Value)}")));
        Fact("precision", request.Precision);
        Fact("n, d", $"{first.N}, {first.D}" + (first.Scale == LogitScale.D ? "" : "; logits over √d") + (first.Causal ? "; causal" : ""));
        if (request.Stack.Count > 0)
        {
            Fact("problems", $"{computed.Outputs.Length} ({string.Join(" × ", request.Stack)}): the loss is their sum, errors are the largest");
        }

        Fact("loss", Format.Value(facts.Loss));
        if (IsAutomatic(request, facts))
        {
            Fact("degree", $"{Format.Value(facts.FittedDegree)}, by its tolerance");
        }

        if (cost.Rank is long rank)
        {
            Fact("rank", Format.Count(rank));
        }

        Fact("time", $"{Format.Seconds(computed.Seconds)} with {request.Threads} thread{(request.Threads == 1 ? "" : "s")}"
            + (request.Pin ? ", pinned" : ""));
        Fact("gradient", $"largest entry {Format.Value(computed.Largest)}, Frobenius norm {Format.Value(computed.Norm)}");
        if (double.IsFinite(facts.MaxLogit))
        {
            Fact("logits", $"largest {Format.Number(facts.MaxLogit)}, root mean square {Format.Number(facts.RmsLogit)}");
        }

        if (computed.Errors is Errors errors)
        {
            Fact("against", errors.Reference);
            Fact("  gradient", $"absolute error {Format.Number(errors.Absolute)}, relative {Format.Number(errors.Relative)}");
            Fact("  loss", $"relative error {Format.Number(errors.Loss)}");
            Fact("  forward", $"relative error {Format.Number(errors.Forward)}");
        }

        if (request.Output is not null)
        {
            Fact("written", request.Output);
        }

        if (request.Outputs is not null)
        {
            Fact("written", $"{string.Join(", ", written)} in {request.Outputs}"
                + (GradientFiles.Missing(written) is { Length: > 0 } missing ? $"; {request.Kernel.Name} gives no {missing}" : ""));
        }

        void Fact(string name, string value) => output.WriteLine($"{name,-11} {Format.Shown(value)}");
    }

    private static double Time<T>(
        Request request, AttentionProblem<T>[] problems, GradientOutput<T>[] results, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        List<double> seconds = [];
        Stopwatch total = Stopwatch.StartNew();
        do
        {
            long start = Stopwatch.GetTimestamp();
            GradientCall.Compute(request.Kernel, problems, request.Settings, results, context);
            seconds.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        while (total.Elapsed < Measured && seconds.Count < 1000);

        seconds.Sort();
        return seconds[seconds.Count / 2];
    }

    private sealed record Errors(string Reference, double Absolute, double Relative, double Loss, double Forward);

    private static Errors Compare<T>(
        AttentionProblem<double>[] inputs, GradientOutput<T>[] results, int threads, CancellationToken cancellation)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        (int n, int d) = (inputs[0].N, inputs[0].D);
        IGradientKernel kernel = ReferenceAt(n);
        GradientOutput<double>[] gold = [.. inputs.Select(_ => new GradientOutput<double>(n, d))];
        GradientCall.Compute(kernel, inputs, Settings.None, gold, new KernelContext(cancellation, threads));
        double loss = gold.Sum(g => g.Loss);
        (double absolute, double largest, double forward, double largestForward) = (0, 0, 0, 0);
        for (int i = 0; i < gold.Length; i++)
        {
            (absolute, largest) = Larger((absolute, largest), Difference(results[i].DX, gold[i].DX));
            (forward, largestForward) = Larger((forward, largestForward), Difference(results[i].Forward, gold[i].Forward));
        }

        return new Errors($"{kernel.Name} float64", absolute, Ratio(absolute, largest),
            Ratio(Math.Abs(results.Sum(r => r.Loss) - loss), Math.Abs(loss)), Ratio(forward, largestForward));

        static (double, double) Larger((double Error, double Size) a, (double Error, double Size) b) =>
            (Math.Max(a.Error, b.Error), Math.Max(a.Size, b.Size));
    }

    private static double Ratio(double error, double size) => error == 0 ? 0 : error / size;

    private static (double Error, double Largest) Difference<T>(T[] values, double[] gold)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double error = 0;
        double largest = 0;
        for (int i = 0; i < gold.Length; i++)
        {
            error = Math.Max(error, Math.Abs(double.CreateChecked(values[i]) - gold[i]));
            largest = Math.Max(largest, Math.Abs(gold[i]));
        }

        return (error, largest);
    }

    private static void CheckOutput(string path, string inputs)
    {
        AtomicFile.CheckPlace(path, "--output");
        string full = Path.GetFullPath(path);
        if (Path.GetDirectoryName(full) == Path.TrimEndingDirectorySeparator(Path.GetFullPath(inputs))
            && Path.GetFileName(full) is "a1.npy" or "a2.npy" or "a3.npy" or "e.npy" or "x.npy" or "y.npy")
        {
            throw CommandException.Invalid($"--output '{path}' is one of the inputs; name another file, such as dx.npy.");
        }
    }

    /// <summary>What the errors are measured against.</summary>
    private static IGradientKernel ReferenceAt(int n) => BuiltIn.Kernel(n <= LargestReference ? "reference" : "exact");

    /// <summary>Refuses what this machine has no memory for: the inputs, what comes out, and the most that one of the calls holds.</summary>
    private static void CheckMemory(Request request, CallShape shape)
    {
        (double n, double d, int size) = (shape.N, shape.D, request.Precision == "float32" ? 4 : 8);
        double inputs = shape.Parts * ((4 * n * d) + (2 * d * d)), outputs = shape.Parts * ((n * d) + (2 * d * d));
        double held = (inputs * (size == 4 ? 12 : 8)) + (size * (outputs + (request.Outputs is null ? 0 : shape.Parts * 3 * n * d)));
        Refuse(request.Kernel, GradientCall.Predict(request.Kernel, shape, size, request.Threads, request.Settings).StateBytes);
        if (request.Check)
        {
            held += 8 * outputs;
            IGradientKernel reference = ReferenceAt(shape.N);
            Refuse(reference, GradientCall.Predict(reference, shape, 8, request.Threads, Settings.None).StateBytes);
        }

        void Refuse(IGradientKernel kernel, double stateBytes)
        {
            long available = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
            if (held + stateBytes > available)
            {
                throw CommandException.Invalid($"Kernel '{kernel.Name}' at n = {shape.N} needs {Format.Bytes(held + stateBytes)}, the matrices "
                    + $"among them, and this machine has {Format.Bytes(available)}. Use a kernel that needs less, or a smaller degree.");
            }
        }
    }

    private static Option<string> Word(string name, string help, string description) =>
        new(name) { HelpName = help, Description = description };
}
