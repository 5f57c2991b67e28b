using System.CommandLine;
using System.Diagnostics;
using System.Numerics;
using Experiments.Benchmarks.Contenders;
using Experiments.Benchmarks.Measuring;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks.Commands;

/// <summary>What one call holds in memory: the process's high-water mark, before it and after.</summary>
internal static class MemoryCommand
{
    public static Command Create(string[] args)
    {
        SharedOptions shared = new();
        Option<int> n = new("--n") { Description = "Tokens", DefaultValueFactory = _ => 131072 };
        Option<int> d = new("--d") { Description = "Head dimension", DefaultValueFactory = _ => 16 };
        Option<int> threads = new("--threads") { Description = "Threads", DefaultValueFactory = _ => Environment.ProcessorCount };
        Option<string> kernel = SharedOptions.Words("--kernel", "exact", "Our kernel: exact or low-rank");
        Option<string> precision = SharedOptions.Words("--precision", "float32", "float32 or float64");
        Command command = new("memory", "What one call holds in memory, by the process's high-water mark")
        {
            n, d, threads, kernel, precision, shared.Degree, shared.Bound, shared.Instructions, shared.Markdown,
        };
        command.SetAction(parsed =>
        {
            int tokens = SharedOptions.Between("--n", parsed.GetValue(n), 1, 1 << 24);
            int dimension = SharedOptions.Between("--d", parsed.GetValue(d), 1, 4096);
            int count = SharedOptions.Between("--threads", parsed.GetValue(threads), 1, 4096);
            KernelChoice choice = KernelChoice.Of(SharedOptions.OneOf("--kernel", parsed.GetValue(kernel)!, "exact", "low-rank"),
                shared.DegreeOf(parsed));
            double bound = shared.BoundOf(parsed);
            bool single = SharedOptions.OneOf("--precision", parsed.GetValue(precision)!, "float32", "float64") == "float32";
            if (Relaunch.IfNeeded(args, parsed.GetValue(shared.Instructions)!, torch: false, rivals: null) is int code)
            {
                return code;
            }

            Report report = new(args, parsed.GetValue(shared.Markdown), rivals: null);
            AttentionProblem<double> problem = Inputs.Draw(tokens, dimension, bound);
            if (single)
            {
                Measure(problem.To<float>(), choice, count, report);
            }
            else
            {
                Measure(problem, choice, count, report);
            }

            report.Write();
            return 0;
        });
        return command;
    }

    private static void Measure<T>(AttentionProblem<T> problem, KernelChoice choice, int threads, Report report)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int bytes = typeof(T) == typeof(float) ? 4 : 8;
        double inputs = bytes * ((4.0 * problem.N * problem.D) + (2.0 * problem.D * problem.D));
        double predicted = choice.Kernel.Predict(problem.N, problem.D, bytes, threads, choice.Settings).StateBytes;

        // The instance was drawn in double and rounded: what that held is given back before the call.
        GC.Collect(2, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        if (Machine.Status("VmRSS") is not long before)
        {
            throw new ArgumentException("The high-water mark of memory is read from /proc/self/status, which this system does not have.");
        }

        // Writing 5 there lets the mark start again from what is held (proc(5)).
        File.WriteAllText("/proc/self/clear_refs", "5");
        using KernelContender<T> contender = new(choice, problem, threads);
        Stopwatch elapsed = Stopwatch.StartNew();
        contender.Compute();
        double seconds = elapsed.Elapsed.TotalSeconds, most = Machine.Status("VmHWM")!.Value;
        MarkdownTable table = new("<kernel", "<precision", "n", "d", "threads", "seconds", "inputs", "in all", "beyond what was held before", "predicted state");
        table.Row(choice.Name, bytes == 4 ? "float32" : "float64", $"{problem.N}", $"{problem.D}", $"{threads}", Figures.Digits(seconds),
            Figures.Bytes(inputs), Figures.Bytes(most), Figures.Bytes(most - before), Figures.Bytes(predicted));
        report.Table(table);
    }
}
