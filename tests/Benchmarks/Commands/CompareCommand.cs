using System.CommandLine;
using Experiments.Benchmarks.Contenders;
using Experiments.Benchmarks.Measuring;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks.Commands;

/// <summary>Our kernels and a rival's ways, interleaved on the same inputs in one process, as ratios with intervals.</summary>
internal static class CompareCommand
{
    public static Command Create(string[] args, IRivals? rivals)
    {
        SharedOptions shared = new();
        Option<string> n = SharedOptions.Words("--n", "4096,16384", "Tokens");
        Option<string> against = SharedOptions.Words("--against", "none", "The rival: torch, or none");
        Option<string> memory = SharedOptions.Words("--torch-memory", "kept",
            "kept: what libtorch frees stays the process's, for its next tensors; or released, as glibc has it unless told");
        Option<bool> all = new("--all")
        {
            Description = $"Time every way of the rival in every round, also those that the warm-up showed to be more than "
                + $"{Comparison.NearEnough} times slower than the fastest",
        };
        Command command = new("compare", "Ratios of ours to each rival, and the share of the measured FMA peak")
        {
            n, shared.D, shared.Precision, shared.Threads, shared.Kernels, shared.Degree, against, memory, all, shared.Bound,
            shared.Rounds, shared.SampleSeconds, shared.LimitSeconds, shared.ClockName, shared.Instructions, shared.Markdown,
        };
        command.SetAction(parsed =>
        {
            bool torch = SharedOptions.OneOf("--against", parsed.GetValue(against)!, "torch", "none") == "torch";
            bool kept = SharedOptions.OneOf("--torch-memory", parsed.GetValue(memory)!, "kept", "released") == "kept";
            int[] sizes = SharedOptions.Numbers("--n", parsed.GetValue(n)!, 1, 1 << 24);
            int[] dimensions = SharedOptions.Numbers("--d", parsed.GetValue(shared.D)!, 1, 4096);
            int[] threads = SharedOptions.Numbers("--threads", parsed.GetValue(shared.Threads)!, 1, 4096);
            string[] precisions = SharedOptions.List("--precision", parsed.GetValue(shared.Precision)!, "float32", "float64");
            int degree = shared.DegreeOf(parsed);
            double bound = shared.BoundOf(parsed);
            KernelChoice[] kernels = [.. SharedOptions.List("--kernels", parsed.GetValue(shared.Kernels)!, "exact", "low-rank")
                .Select(k => KernelChoice.Of(k, degree))];
            Rounds rounds = shared.RoundsOf(parsed);
            if (Relaunch.IfNeeded(args, parsed.GetValue(shared.Instructions)!, torch, rivals, torch && kept) is int code)
            {
                return code;
            }

            Report report = new(args, parsed.GetValue(shared.Markdown), torch ? rivals : null);
            Comparison comparison = new(kernels, torch ? rivals : null, threads, rounds, parsed.GetValue(all), report);
            foreach (string precision in precisions)
            {
                foreach (int d in dimensions)
                {
                    foreach (int size in sizes)
                    {
                        AttentionProblem<double> problem = Inputs.Draw(size, d, bound);
                        if (precision == "float32")
                        {
                            comparison.Run(problem.To<float>());
                        }
                        else
                        {
                            comparison.Run(problem);
                        }
                    }
                }
            }

            comparison.Conclude();
            report.Write();
            return comparison.Disagreements == 0 ? 0 : 2;
        });
        return command;
    }
}
