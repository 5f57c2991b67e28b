using System.CommandLine;
using System.Numerics;
using Experiments.Benchmarks.Contenders;
using Experiments.Benchmarks.Measuring;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks.Commands;

/// <summary>How the time grows with n: the slope of log time over log n, with an interval, and the time of each pair or row.</summary>
internal static class ScalingCommand
{
    public static Command Create(string[] args)
    {
        SharedOptions shared = new();
        Option<string> n = SharedOptions.Words("--n", "4096,8192,16384,32768,65536,131072", "Tokens");
        Command command = new("scaling", "Slopes of log time over log n")
        {
            n, shared.D, shared.Precision, shared.Threads, shared.Kernels, shared.Degree, shared.Bound, shared.Rounds,
            shared.SampleSeconds, shared.LimitSeconds, shared.ClockName, shared.Instructions, shared.Markdown,
        };
        command.SetAction(parsed =>
        {
            int[] sizes = [.. SharedOptions.Numbers("--n", parsed.GetValue(n)!, 1, 1 << 24).Order()];
            int[] dimensions = SharedOptions.Numbers("--d", parsed.GetValue(shared.D)!, 1, 4096);
            int[] threads = SharedOptions.Numbers("--threads", parsed.GetValue(shared.Threads)!, 1, 4096);
            string[] precisions = SharedOptions.List("--precision", parsed.GetValue(shared.Precision)!, "float32", "float64");
            string[] kernels = SharedOptions.List("--kernels", parsed.GetValue(shared.Kernels)!, "exact", "low-rank");
            int degree = shared.DegreeOf(parsed);
            double limit = parsed.GetValue(shared.LimitSeconds), bound = shared.BoundOf(parsed);
            Rounds rounds = shared.RoundsOf(parsed);
            if (Relaunch.IfNeeded(args, parsed.GetValue(shared.Instructions)!, torch: false, rivals: null) is int code)
            {
                return code;
            }

            Report report = new(args, parsed.GetValue(shared.Markdown), rivals: null);
            MarkdownTable slopes = new("<precision", "d", "threads", "<kernel", "n from", "n to", "slope [95 %]");
            MarkdownTable times = new("<precision", "d", "threads", "<kernel", "n", "median ms", "ns per pair or row", "slope from the n before");
            foreach (string precision in precisions)
            {
                foreach (int d in dimensions)
                {
                    foreach (int count in threads)
                    {
                        foreach (KernelChoice kernel in kernels.Select(k => KernelChoice.Of(k, degree)))
                        {
                            Case setting = new(precision, d, count, kernel, bound, limit);
                            Report.Progress($"{precision}, d = {d}, {Figures.Count(count, "thread")}, {kernel.Name}");
                            if (precision == "float32")
                            {
                                Measure<float>(setting, sizes, rounds, slopes, times);
                            }
                            else
                            {
                                Measure<double>(setting, sizes, rounds, slopes, times);
                            }
                        }
                    }
                }
            }

            report.Line("Least-squares slope of the logarithm of the median time over that of n; its interval by the bootstrap over rounds.\n");
            report.Table(slopes);
            report.Line("Nanoseconds per pair (exact) or per row (low-rank): constant where the slope is exactly 2 or 1.\n");
            report.Table(times);
            report.Write();
            return 0;
        });
        return command;
    }

    private sealed record Case(string Precision, int D, int Threads, KernelChoice Kernel, double Bound, double LimitSeconds);

    private static void Measure<T>(Case setting, int[] sizes, Rounds rounds, MarkdownTable slopes, MarkdownTable times)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        List<(int N, TimedContender Timed)> timed = [];
        double spent = 0;
        foreach (int n in sizes)
        {
            // The next size is thought to cost as the method's own exponent says.
            double next = timed.Count == 0 ? 0
                : timed[^1].Timed.Estimate * Math.Pow((double)n / timed[^1].N, setting.Kernel.Exact ? 2 : 1);
            if ((spent + next) * (Rounds.Least + 2) > setting.LimitSeconds)
            {
                Report.Progress($"  left out: n = {n} and above, which would take more than --limit-seconds {setting.LimitSeconds}");
                break;
            }

            AttentionProblem<T> problem = Inputs.Draw(n, setting.D, setting.Bound).To<T>();
            TimedContender contender = new(new KernelContender<T>(setting.Kernel, problem, setting.Threads));
            contender.WarmUp(rounds.Clock);
            timed.Add((n, contender));
            spent += contender.Estimate;
        }

        int taken = rounds.Run([.. timed.Select(t => t.Timed)]);
        double Time(TimedContender t, int[] chosen) => Statistics.Median([.. chosen.Select(r => t.Samples[r])]);
        string d = $"{setting.D}", threads = $"{setting.Threads}", name = setting.Kernel.Name;
        if (timed.Count > 1)
        {
            Interval slope = Statistics.Bootstrap(taken, chosen => Statistics.Slope(
                [.. timed.Select(t => (Math.Log(t.N), Math.Log(Time(t.Timed, chosen))))]));
            slopes.Row(setting.Precision, d, threads, name, $"{timed[0].N}", $"{timed[^1].N}", Figures.Ratio(slope));
        }

        for (int i = 0; i < timed.Count; i++)
        {
            (int n, TimedContender contender) = timed[i];
            double seconds = contender.Median, units = setting.Kernel.Exact ? (double)n * n : n;
            string local = i == 0 ? "" : Figures.Ratio(Statistics.Bootstrap(taken, chosen =>
                Math.Log(Time(contender, chosen) / Time(timed[i - 1].Timed, chosen)) / Math.Log((double)n / timed[i - 1].N)));
            times.Row(setting.Precision, d, threads, name, $"{n}", Figures.Milliseconds(seconds), Figures.Digits(1e9 * seconds / units), local);
        }

        foreach ((_, TimedContender contender) in timed)
        {
            contender.Dispose();
        }
    }
}
