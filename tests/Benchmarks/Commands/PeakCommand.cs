using System.CommandLine;
using System.Numerics;
using Experiments.Benchmarks.Measuring;

namespace Experiments.Benchmarks.Commands;

/// <summary>What the pure multiply-add loop reaches: the peak that everything else is a share of.</summary>
internal static class PeakCommand
{
    public static Command Create(string[] args)
    {
        SharedOptions shared = new();
        Command command = new("peak", "The floating-point peak that a loop of multiply-adds reaches in registers")
        {
            shared.Precision, shared.Threads, shared.Rounds, shared.SampleSeconds, shared.LimitSeconds, shared.ClockName,
            shared.Instructions, shared.Markdown,
        };
        command.SetAction(parsed =>
        {
            int[] threads = SharedOptions.Numbers("--threads", parsed.GetValue(shared.Threads)!, 1, 4096);
            string[] precisions = SharedOptions.List("--precision", parsed.GetValue(shared.Precision)!, "float32", "float64");
            Rounds rounds = shared.RoundsOf(parsed);
            if (Relaunch.IfNeeded(args, parsed.GetValue(shared.Instructions)!, torch: false, rivals: null) is int code)
            {
                return code;
            }

            Report report = new(args, parsed.GetValue(shared.Markdown), rivals: null);
            MarkdownTable table = new("<precision", "bits", "threads", "GFLOP/s [95 %]");
            foreach (string precision in precisions)
            {
                if (precision == "float32")
                {
                    Measure<float>(precision, threads, rounds, table);
                }
                else
                {
                    Measure<double>(precision, threads, rounds, table);
                }
            }

            report.Table(table);
            report.Write();
            return 0;
        });
        return command;
    }

    private static void Measure<T>(string precision, int[] threads, Rounds rounds, MarkdownTable table)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Crew[] crews = [.. threads.Select(t => new Crew(t))];
        TimedPeak[] peaks = [.. crews.SelectMany(c => FmaLoop.For<T>().Select(loop => new TimedPeak(loop, c)))];
        foreach (TimedPeak peak in peaks)
        {
            peak.WarmUp(rounds.Clock);
        }

        int taken = rounds.Run(peaks);
        foreach (TimedPeak peak in peaks)
        {
            table.Row(precision, $"{peak.Bits}", $"{peak.Threads}", Figures.Ratio(
                Statistics.Median(taken, r => peak.FlopsPerCall / peak.Samples[r] / 1e9)));
        }

        foreach (Crew crew in crews)
        {
            crew.Dispose();
        }
    }
}
