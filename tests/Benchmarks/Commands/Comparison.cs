using System.Numerics;
using Experiments.Benchmarks.Contenders;
using Experiments.Benchmarks.Measuring;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks.Commands;

/// <summary>The cases of one <c>compare</c>, each a shape and a precision, with every thread count in the same rounds.</summary>
internal sealed class Comparison(
    IReadOnlyList<KernelChoice> kernels, IRivals? rivals, int[] threads, Rounds rounds, bool all, Report report)
{
    /// <summary>A way that the warm-up shows to be so many times slower than the fastest cannot be the fastest.</summary>
    public const double NearEnough = 3;

    // The textbook loops are the gold while they are quick; beyond, the exact kernel in double, which they hold in the tests.
    private const int LargestReference = 1024;

    // Beyond, a gold in double would take longer than all the rounds.
    private const int LargestGold = 32768;

    // Largest difference over the largest entry. Float32 sums of 10^4 terms in any order stay well below; a wrong scale, a
    // missing product or a transposed operand is far above.
    private const double Float32Tolerance = 1e-4, Float64Tolerance = 1e-10;

    // An approximation is compared at all only where it is one: degree 4 at |logits| ≤ 1 is off by about 1e-4.
    private const double LowRankTolerance = 1e-3;

    private readonly MarkdownTable _summary = new(
        "<precision", "n", "d", "threads", "<ours", "ms", "<against", "its ms", "ratio [95 %]", "of minima", "% of FMA peak, 256 bits", "512 bits");

    private readonly MarkdownTable _scaling = new(
        "<precision", "n", "d", "<ours", "threads", "gain [95 %]", "FMA loop's gain", "gain over FMA loop's");

    /// <summary>How many results were beyond their tolerance.</summary>
    public int Disagreements { get; private set; }

    public void Run<T>(AttentionProblem<T> problem)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        string precision = typeof(T) == typeof(float) ? "float32" : "float64";
        Report.Progress($"{precision}, n = {problem.N}, d = {problem.D}");
        List<Entry> entries = [];
        List<Crew> crews = [];
        try
        {
            foreach (int count in threads)
            {
                Crew crew = new(count);
                crews.Add(crew);
                entries.AddRange(FmaLoop.For<T>().Select(loop => new Entry(new TimedPeak(loop, crew), count, null)));
                entries.AddRange(kernels.Select(
                    k => new Entry(new TimedContender(new KernelContender<T>(k, problem, count)), count, k)));
                entries.AddRange((rivals?.Ways(problem, count, Decline) ?? [])
                    .Select(way => new Entry(new TimedContender(way), count, null)));
            }

            foreach (Entry entry in entries)
            {
                entry.Timed.WarmUp(rounds.Clock);
            }

            Judge(problem, entries);
            List<Entry> slow = all ? [] : [.. entries.Where(e => e.Rival
                && e.Timed.Estimate > NearEnough * Group(entries, e.Threads).Where(x => x.Rival).Min(x => x.Timed.Estimate))];
            List<Entry> timed = [.. entries.Except(slow)];
            int taken = rounds.Run([.. timed.Select(e => e.Timed)]);
            Print(problem, precision, timed, slow, taken);
        }
        finally
        {
            foreach (IDisposable thing in entries.Select(e => e.Timed).OfType<IDisposable>().Concat(crews))
            {
                thing.Dispose();
            }
        }
    }

    /// <summary>The tables over all cases.</summary>
    public void Conclude()
    {
        report.Line("Ratio: the other's time over ours, the median over rounds of the ratio within a round; its interval by the bootstrap");
        report.Line("over rounds. Against a rival it is the fastest of its ways. Shares of peak count 4d multiply-adds a pair for exact and");
        report.Line("n(d+1)(2k'+k) for low-rank, over what the FMA loop reached in the same round on as many threads. The ratio of the");
        report.Line("minima over rounds stands beside: where the two differ much, other work was on the cores and neither should be quoted.\n");
        report.Table(_summary);
        if (_scaling.Rows > 0)
        {
            report.Line("One thread's time over that of several, beside what the FMA loop gained in the same rounds.\n");
            report.Table(_scaling);
        }
    }

    private static IEnumerable<Entry> Group(IEnumerable<Entry> entries, int count) => entries.Where(e => e.Threads == count);

    private static void Decline(string reason) => Report.Progress($"  left out: {reason}");

    /// <summary>Holds every result to the gold, each to its tolerance.</summary>
    private void Judge<T>(AttentionProblem<T> problem, IReadOnlyList<Entry> entries)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double tolerance = typeof(T) == typeof(float) ? Float32Tolerance : Float64Tolerance;
        if (problem.N > LargestGold && kernels.All(k => !k.Exact))
        {
            Report.Progress($"  n is above {LargestGold} and no exact kernel is in the comparison: results are held to nothing");
            return;
        }

        double[] gold = problem.N <= LargestGold
            ? Gold(problem)
            : ((TimedContender)entries.First(e => e.Kernel is { Exact: true }).Timed).Contender.Gradient();
        foreach (Entry entry in entries)
        {
            if (entry.Timed is TimedContender contender)
            {
                entry.Error = Inputs.Error(contender.Contender.Gradient(), gold);
                entry.Tolerance = entry.Kernel is { Exact: false } ? LowRankTolerance : tolerance;
                if (!entry.Agrees)
                {
                    Disagreements++;
                    report.Line($"{contender.Name} disagrees at n = {problem.N}, d = {problem.D}, {Figures.Count(entry.Threads, "thread")}: its dX "
                        + $"is off by {Figures.Error(entry.Error)} of the largest entry, beyond {Figures.Error(entry.Tolerance)}; no ratio is given."
                        + (entry.Kernel is { Exact: false } ? " Raise --degree or lower --bound." : ""));
                }
            }
        }
    }

    private double[] Gold<T>(AttentionProblem<T> problem)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AttentionProblem<double> wide = problem.To<double>();
        IGradientKernel kernel = problem.N <= LargestReference ? new ReferenceGradient() : new ExactGradient();
        GradientOutput<double> output = new(problem.N, problem.D);
        kernel.Compute(wide, Experiments.Kernels.Settings.None, output, new(CancellationToken.None, threads.Max()));
        return output.DX;
    }

    private void Print<T>(
        AttentionProblem<T> problem, string precision, IReadOnlyList<Entry> timed, IReadOnlyList<Entry> slow, int taken)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int n = problem.N, d = problem.D;
        MarkdownTable table = new("threads", "<what", "median ms", "over ours [95 %]", "GFLOP/s", "error of dX");
        foreach (int count in threads)
        {
            Entry[] group = [.. Group(timed, count)];
            Entry ours = group.First(e => e.Kernel is not null);
            double flops = ours.Kernel!.ModelFlops(n, d);
            foreach (Entry entry in group)
            {
                double work = entry.Timed is TimedPeak peak ? peak.FlopsPerCall : entry.Kernel?.ModelFlops(n, d) ?? flops;
                bool comparable = entry.Timed is TimedContender && entry != ours && entry.Agrees && ours.Agrees;
                table.Row($"{count}", entry.Timed.Name,
                    entry.Timed is TimedPeak ? "" : Figures.Milliseconds(entry.Timed.Median),
                    comparable ? Figures.Ratio(Over(entry, ours, taken)) : "",
                    Figures.Digits(work / entry.Timed.Median / 1e9),
                    entry.Timed is TimedPeak ? "" : Figures.Error(entry.Error));
            }

            foreach (Entry entry in Group(slow, count))
            {
                table.Row($"{count}", entry.Timed.Name, $"~{Figures.Milliseconds(entry.Timed.Estimate)}", "not timed further",
                    Figures.Digits(flops / entry.Timed.Estimate / 1e9), Figures.Error(entry.Error));
            }

            foreach (Entry own in group.Where(e => e.Kernel is not null))
            {
                Summarise(own, group, n, d, precision, taken);
            }
        }

        Console.WriteLine($"\n{Figures.Count(taken, "round")}; GFLOP/s by the model of our kernel in the same row or group\n\n{table}");
        foreach (KernelChoice kernel in kernels)
        {
            Scale(kernel, timed, n, d, precision, taken);
        }
    }

    private void Summarise(Entry own, Entry[] group, int n, int d, string precision, int taken)
    {
        string[] shares = ["", ""];
        foreach (Entry entry in group)
        {
            if (entry.Timed is TimedPeak peak)
            {
                double work = own.Kernel!.ModelFlops(n, d);
                shares[peak.Bits == 512 ? 1 : 0] = Figures.Percent(Statistics.Median(taken,
                    r => work / own.Timed.Samples[r] / (peak.FlopsPerCall / peak.Samples[r])));
            }
        }

        List<Entry> others = [.. group.Where(e => e.Kernel is { Exact: true } && own.Kernel is { Exact: false })];
        if (group.Where(e => e.Rival && e.Agrees).MinBy(e => e.Timed.Median) is Entry fastest)
        {
            others.Add(fastest);
        }

        others.RemoveAll(e => !e.Agrees || !own.Agrees);
        string threadCount = $"{own.Threads}", ms = Figures.Milliseconds(own.Timed.Median);
        if (others.Count == 0)
        {
            _summary.Row(precision, $"{n}", $"{d}", threadCount, own.Timed.Name, ms, "", "", own.Agrees ? "" : "disagrees", "", shares[0], shares[1]);
        }

        foreach (Entry other in others)
        {
            _summary.Row(precision, $"{n}", $"{d}", threadCount, own.Timed.Name, ms,
                other.Timed.Name, Figures.Milliseconds(other.Timed.Median), Figures.Ratio(Over(other, own, taken)),
                Figures.Digits(other.Timed.Samples.Min() / own.Timed.Samples.Min()), shares[0], shares[1]);
        }
    }

    /// <summary>What more threads gain, against what they gain a loop that shares nothing.</summary>
    private void Scale(KernelChoice kernel, IReadOnlyList<Entry> timed, int n, int d, string precision, int taken)
    {
        if (!threads.Contains(1))
        {
            return;
        }

        Timed Kernel(int count) => Group(timed, count).First(e => e.Kernel == kernel).Timed;
        TimedPeak Peak(int count) => Group(timed, count).Select(e => e.Timed).OfType<TimedPeak>().Last();
        foreach (int count in threads.Where(t => t > 1))
        {
            (Timed one, Timed many, TimedPeak peakOne, TimedPeak peakMany) = (Kernel(1), Kernel(count), Peak(1), Peak(count));
            double Gain(int r) => one.Samples[r] / many.Samples[r];
            double PeakGain(int r) =>
                peakMany.FlopsPerCall / peakMany.Samples[r] / (peakOne.FlopsPerCall / peakOne.Samples[r]);
            _scaling.Row(precision, $"{n}", $"{d}", one.Name, $"{count}",
                Figures.Ratio(Statistics.Median(taken, Gain)), Figures.Ratio(Statistics.Median(taken, PeakGain)),
                Figures.Percent(Statistics.Median(taken, r => Gain(r) / PeakGain(r))));
        }
    }

    private static Interval Over(Entry other, Entry own, int taken) =>
        Statistics.Median(taken, r => other.Timed.Samples[r] / own.Timed.Samples[r]);

    private sealed class Entry(Timed timed, int threads, KernelChoice? kernel)
    {
        public Timed Timed => timed;

        public int Threads => threads;

        public KernelChoice? Kernel => kernel;

        public bool Rival => kernel is null && timed is TimedContender;

        public double Error { get; set; } = double.NaN;

        public double Tolerance { get; set; } = double.PositiveInfinity;

        // What was held to nothing (NaN) has not disagreed.
        public bool Agrees => !(Error > Tolerance);
    }
}
