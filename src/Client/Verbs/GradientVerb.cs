using System.CommandLine;
using System.Diagnostics;
using System.Numerics;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
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
            Description = "Folder of a1.npy, a2.npy, a3.npy, e.npy (n, d) and x.npy, y.npy (d, d): float32 or float64, C order",
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
        Option<string> device = Word("--device", "cpu", "Where to compute");
        Option<string> output = Word("--output", "F.npy", "Write the gradient there");
        Option<bool> check = new("--check") { Description = "Compare with the float64 reference" };
        return new Verb("gradient", "Compute one gradient of your own matrices")
        {
            Examples =
            [
                ("experiments gradient --inputs my-matrices --kernel exact --json", "loss and gradient, exactly"),
                ("experiments gradient --inputs my-matrices --kernel low-rank --degree 4 --check", "approximately, with its error"),
                ("experiments gradient --inputs my-matrices --kernel reference --output dx.npy", "by the textbook, into a file"),
            ],
            Options =
            {
                inputs, kernel, precision, degree, basis, form, radius, centred, set, threads, device, output, check,
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
            string? file = invocation.Value(output);
            if (file is not null)
            {
                CheckOutput(file);
            }

            string folder = invocation.Value(inputs)!;
            if (!Directory.Exists(folder))
            {
                throw CommandException.Invalid($"--inputs '{folder}' is not a folder. "
                    + "It should hold a1.npy, a2.npy, a3.npy, e.npy, x.npy and y.npy.");
            }

            (AttentionProblem<double> problem, int bytes) = NpyFolder.Load(folder);
            Request request = new(chosen, settings, invocation.Value(threads) ?? Environment.ProcessorCount,
                typedPrecision ?? (bytes == 4 ? "float32" : "float64"), invocation.Value(check), file);
            if (request.Precision == "float32")
            {
                await RunAsync<float>(invocation, problem, request);
            }
            else
            {
                await RunAsync<double>(invocation, problem, request);
            }

            return ExitCode.Done;
        });
    }

    private sealed record Request(
        IGradientKernel Kernel, Settings Settings, int Threads, string Precision, bool Check, string? Output);

    private static async Task RunAsync<T>(Invocation invocation, AttentionProblem<double> inputs, Request request)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AttentionProblem<T> problem = inputs.To<T>();
        if (problem.FirstNonFinite() is string fault)
        {
            throw CommandException.Invalid($"In {request.Precision} {fault}. Use --precision float64, or scale the inputs.");
        }

        (int n, int d) = (problem.N, problem.D);
        KernelCost cost = request.Kernel.Predict(
            n, d, request.Precision == "float32" ? 4 : 8, request.Threads, request.Settings);
        CheckMemory(request.Kernel.Name, n, cost.StateBytes);
        GradientOutput<T> result = new(n, d);
        KernelContext context = new(invocation.Cancellation, request.Threads);
        double seconds = Time(request, problem, result, context);

        // Facts about the logits cost a kernel a pass, which must not be in its time.
        request.Kernel.Compute(problem, request.Settings, result, context with { Statistics = true });
        if (double.IsFinite(result.FittedDegree) && request.Settings.Values.GetValueOrDefault("degree") is string)
        {
            // The rank above is an upper bound where the kernel chooses its degree; what is shown is the chosen one's.
            cost = request.Kernel.Predict(n, d, request.Precision == "float32" ? 4 : 8, request.Threads,
                new Settings(new Dictionary<string, object>(request.Settings.Values) { ["degree"] = (long)result.FittedDegree }));
        }

        Errors? errors = request.Check ? Compare(inputs, result, request.Threads, invocation.Cancellation) : null;
        if (request.Output is string path)
        {
            await AtomicFile.WriteAsync(path, "--output", temporary =>
            {
                NpyFile.Write<T>(temporary, result.DX, d, d);
                return Task.CompletedTask;
            });
        }

        double largest = result.DX.Max(v => Math.Abs(double.CreateChecked(v)));
        double norm = Math.Sqrt(result.DX.Sum(v => double.CreateChecked(v) * double.CreateChecked(v)));
        if (invocation.Json)
        {
            JsonObject json = new()
            {
                ["kernel"] = request.Kernel.Name,
                ["precision"] = request.Precision,
                ["settings"] = JsonOutput.Object(request.Settings.Values),
                ["threads"] = request.Threads,
                ["device"] = "cpu",
                ["n"] = n,
                ["d"] = d,
                ["loss"] = JsonOutput.Number(result.Loss),
                ["rank"] = cost.Rank,
                ["seconds"] = seconds,
                ["max_abs_gradient"] = JsonOutput.Number(largest),
                ["frobenius_norm_gradient"] = JsonOutput.Number(norm),
                ["max_logit"] = JsonOutput.Number(result.MaxLogit),
                ["rms_logit"] = JsonOutput.Number(result.RmsLogit),
                ["min_row_sum_over_n"] = JsonOutput.Number(result.MinRowSumOverN),
                ["fitted_radius"] = JsonOutput.Number(result.FittedRadius),
                ["fitted_degree"] = JsonOutput.Number(result.FittedDegree),
                ["predicted_exp_error"] = JsonOutput.Number(result.PredictedExpError),
                ["output"] = request.Output,
            };
            if (errors is not null)
            {
                json["reference"] = errors.Reference;
                json["gradient_absolute_error"] = JsonOutput.Number(errors.Absolute);
                json["gradient_relative_error"] = JsonOutput.Number(errors.Relative);
                json["loss_relative_error"] = JsonOutput.Number(errors.Loss);
                json["forward_relative_error"] = JsonOutput.Number(errors.Forward);
            }

            if (d <= LargestPrinted)
            {
                json["gradient"] = new JsonArray([.. Enumerable.Range(0, d).Select(row => new JsonArray(
                    [.. Enumerable.Range(0, d).Select(c => JsonOutput.Number(double.CreateChecked(result.DX[(row * d) + c])))]))]);
            }

            JsonOutput.Write(invocation.Terminal.Out, json);
            return;
        }

        TextWriter output = invocation.Terminal.Out;
        Fact("kernel", request.Kernel.Name + string.Concat(request.Settings.Values
            .OrderBy(s => s.Key, StringComparer.Ordinal).Select(s => $" {s.Key}={Format.Value(s.Value)}")));
        Fact("precision", request.Precision);
        Fact("n, d", $"{n}, {d}");
        Fact("loss", Format.Value(result.Loss));
        if (double.IsFinite(result.FittedDegree) && request.Settings.Values.GetValueOrDefault("degree") is string)
        {
            Fact("degree", $"{Format.Value(result.FittedDegree)}, by its tolerance");
        }

        if (cost.Rank is long rank)
        {
            Fact("rank", Format.Count(rank));
        }

        Fact("time", $"{Format.Seconds(seconds)} with {request.Threads} thread{(request.Threads == 1 ? "" : "s")}");
        Fact("gradient", $"largest entry {Format.Value(largest)}, Frobenius norm {Format.Value(norm)}");
        if (double.IsFinite(result.MaxLogit))
        {
            Fact("logits", $"largest {Format.Number(result.MaxLogit)}, root mean square {Format.Number(result.RmsLogit)}");
        }

        if (errors is not null)
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

        void Fact(string name, string value) => output.WriteLine($"{name,-11} {value}");
    }

    private static double Time<T>(
        Request request, AttentionProblem<T> problem, GradientOutput<T> result, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        List<double> seconds = [];
        Stopwatch total = Stopwatch.StartNew();
        do
        {
            long start = Stopwatch.GetTimestamp();
            request.Kernel.Compute(problem, request.Settings, result, context);
            seconds.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        while (total.Elapsed < Measured && seconds.Count < 1000);

        seconds.Sort();
        return seconds[seconds.Count / 2];
    }

    private sealed record Errors(string Reference, double Absolute, double Relative, double Loss, double Forward);

    private static Errors Compare<T>(
        AttentionProblem<double> inputs, GradientOutput<T> result, int threads, CancellationToken cancellation)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        string name = inputs.N <= LargestReference ? "reference" : "exact";
        IGradientKernel kernel = BuiltIn.Kernel(name);
        CheckMemory(name, inputs.N, kernel.Predict(inputs.N, inputs.D, 8, threads, Settings.None).StateBytes);
        GradientOutput<double> gold = new(inputs.N, inputs.D);
        kernel.Compute(inputs, Settings.None, gold, new KernelContext(cancellation, threads));
        (double absolute, double largest) = Difference(result.DX, gold.DX);
        (double forward, double largestForward) = Difference(result.Forward, gold.Forward);
        return new Errors($"{name} float64", absolute, Ratio(absolute, largest),
            Ratio(Math.Abs(result.Loss - gold.Loss), Math.Abs(gold.Loss)), Ratio(forward, largestForward));
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

    private static void CheckOutput(string path)
    {
        if (path.Length == 0)
        {
            throw CommandException.Invalid("--output is empty; a file name is needed, such as dx.npy.");
        }

        AtomicFile.CheckPlace(path, "--output");
    }

    private static void CheckMemory(string kernel, int n, double stateBytes)
    {
        long available = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (stateBytes > available)
        {
            throw CommandException.Invalid($"Kernel '{kernel}' at n = {n} needs {Format.Bytes(stateBytes)}, and this machine has "
                + $"{Format.Bytes(available)}. Use a kernel that needs less, or a smaller degree.");
        }
    }

    private static Option<string> Word(string name, string help, string description) =>
        new(name) { HelpName = help, Description = description };
}
