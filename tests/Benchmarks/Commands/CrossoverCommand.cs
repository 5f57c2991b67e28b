using System.CommandLine;
using System.Numerics;
using Experiments.Benchmarks.Contenders;
using Experiments.Benchmarks.Measuring;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks.Commands;

/// <summary>The n from which the low-rank kernel is faster than the exact one.</summary>
internal static class CrossoverCommand
{
    public static Command Create(string[] args)
    {
        SharedOptions shared = new();
        Option<string> n = SharedOptions.Words("--n", "64,128,256,512,1024,2048,4096,8192", "Tokens, the grid the crossover is sought on");
        Command command = new("crossover", "The n from which low-rank is faster than exact")
        {
            n, shared.D, shared.Precision, shared.Threads, shared.Degree, shared.Bound, shared.Rounds, shared.SampleSeconds,
            shared.LimitSeconds, shared.ClockName, shared.Instructions, shared.Markdown,
        };
        command.SetAction(parsed =>
        {
            int[] sizes = [.. SharedOptions.Numbers("--n", parsed.GetValue(n)!, 1, 1 << 20).Order()];
            int[] dimensions = SharedOptions.Numbers("--d", parsed.GetValue(shared.D)!, 1, 4096);
            int[] threads = SharedOptions.Numbers("--threads", parsed.GetValue(shared.Threads)!, 1, 4096);
            string[] precisions = SharedOptions.List("--precision", parsed.GetValue(shared.Precision)!, "float32", "float64");
            int degree = shared.DegreeOf(parsed);
            double bound = shared.BoundOf(parsed);
            Rounds rounds = shared.RoundsOf(parsed);
            if (Relaunch.IfNeeded(args, parsed.GetValue(shared.Instructions)!, torch: false, rivals: null) is int code)
            {
                return code;
            }

            Report report = new(args, parsed.GetValue(shared.Markdown), rivals: null);
            MarkdownTable crossovers = new("<precision", "d", "threads", "degree", "crossover n [95 %]");
            MarkdownTable ratios = new("<precision", "d", "threads", "n", "exact ms", "low-rank ms", "exact over low-rank [95 %]", "error of dX");
            foreach (string precision in precisions)
            {
                foreach (int d in dimensions)
                {
                    foreach (int count in threads)
                    {
                        Report.Progress($"{precision}, d = {d}, {Figures.Count(count, "thread")}");
                        Case setting = new(precision, d, count, degree, bound);
                        if (precision == "float32")
                        {
                            Measure<float>(setting, sizes, rounds, crossovers, ratios);
                        }
                        else
                        {
                            Measure<double>(setting, sizes, rounds, crossovers, ratios);
                        }
                    }
                }
            }

            report.Line("Where the time of exact over that of low-rank, interpolated in log n, passes 1 for the last time.\n");
            report.Table(crossovers);
            report.Line("");
            report.Table(ratios);
            report.Write();
            return 0;
        });
        return command;
    }

    private sealed record Case(string Precision, int D, int Threads, int Degree, double Bound);

    private static void Measure<T>(Case setting, int[] sizes, Rounds rounds, MarkdownTable crossovers, MarkdownTable ratios)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        KernelChoice exact = KernelChoice.Of("exact", 0), lowRank = KernelChoice.Of("low-rank", setting.Degree);
        List<(int N, TimedContender Exact, TimedContender LowRank, double Error)> pairs = [];
        foreach (int n in sizes)
        {
            AttentionProblem<T> problem = Inputs.Draw(n, setting.D, setting.Bound).To<T>();
            TimedContender slow = new(new KernelContender<T>(exact, problem, setting.Threads));
            TimedContender fast = new(new KernelContender<T>(lowRank, problem, setting.Threads));
            slow.WarmUp(rounds.Clock);
            fast.WarmUp(rounds.Clock);
            pairs.Add((n, slow, fast, Inputs.Error(fast.Contender.Gradient(), slow.Contender.Gradient())));
        }

        int taken = rounds.Run([.. pairs.SelectMany(p => new Timed[] { p.Exact, p.LowRank })]);
        string d = $"{setting.D}", threads = $"{setting.Threads}";
        Interval found = Statistics.Bootstrap(taken, chosen => Crossing(
            [.. pairs.Select(p => (Math.Log(p.N), Math.Log(Statistics.Median([.. chosen.Select(r => p.Exact.Samples[r] / p.LowRank.Samples[r])]))))]));
        crossovers.Row(setting.Precision, d, threads, $"{setting.Degree}", Text(found, sizes));
        foreach ((int n, TimedContender slow, TimedContender fast, double error) in pairs)
        {
            ratios.Row(setting.Precision, d, threads, $"{n}", Figures.Milliseconds(slow.Median), Figures.Milliseconds(fast.Median),
                Figures.Ratio(Statistics.Median(taken, r => slow.Samples[r] / fast.Samples[r])), Figures.Error(error));
        }
    }

    /// <summary>The x, not its logarithm, at which y passes 0 upwards for the last time: 0 if it is above throughout,
    /// infinity if it ends below.</summary>
    private static double Crossing(List<(double X, double Y)> points)
    {
        if (points[^1].Y < 0)
        {
            return double.PositiveInfinity;
        }

        for (int i = points.Count - 1; i > 0; i--)
        {
            ((double x0, double y0), (double x1, double y1)) = (points[i - 1], points[i]);
            if (y0 < 0)
            {
                return Math.Exp(x0 + ((x1 - x0) * y0 / (y0 - y1)));
            }
        }

        return 0;
    }

    private static string Text(Interval found, int[] sizes)
    {
        string One(double n) => n == 0 ? $"below {sizes[0]}" : double.IsInfinity(n) ? $"above {sizes[^1]}" : Figures.Digits(Math.Round(n));
        return $"{One(found.Value)} [{One(found.Low)}, {One(found.High)}]";
    }
}
