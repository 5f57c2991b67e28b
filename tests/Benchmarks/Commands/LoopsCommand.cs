using System.CommandLine;
using System.Globalization;
using System.Numerics;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Experiments.Benchmarks.Measuring;
using Experiments.Kernels.AttentionGradient.Exact;
using Experiments.Kernels.Numbers;

namespace Experiments.Benchmarks.Commands;

/// <summary>The exact kernel's inner loops by themselves, on data in the first-level cache: cycles a vector beside what the multiply-adds alone would take, and the
/// instructions that the compiler made. What a whole call is slower by lies between them.</summary>
/// <remarks>A cycle is the time in which the pure loop makes two multiply-adds: no counter of the processor is needed.</remarks>
internal static class LoopsCommand
{
    public static Command Create(string[] args)
    {
        SharedOptions shared = new();
        Command command = new("loops", "The inner loops of the exact kernel: cycles a vector, and the instructions that they were compiled to")
        {
            shared.D, shared.Precision, shared.Rounds, shared.SampleSeconds, shared.LimitSeconds, shared.ClockName, shared.Instructions, shared.Markdown,
        };
        command.SetAction(parsed =>
        {
            int[] ds = SharedOptions.Numbers("--d", parsed.GetValue(shared.D)!, 1, 4096);
            string[] precisions = SharedOptions.List("--precision", parsed.GetValue(shared.Precision)!, "float32", "float64");
            Rounds rounds = shared.RoundsOf(parsed);
            if (Relaunch.IfNeeded(args, parsed.GetValue(shared.Instructions)!, torch: false, rivals: null) is int code)
            {
                return code;
            }

            if (!Fma.IsSupported)
            {
                throw new ArgumentException("The loops are listed for x64 with fused multiply-adds, which this process has not.");
            }

            IReadOnlyList<InnerLoop>? listing = Listing.Of(Relaunch.ThisProgram(), args, "Dot", "Powers", "Accumulate");
            // The process that lists has nothing to report: its parent does, to the same file.
            Report? report = listing is null ? null : new(args, parsed.GetValue(shared.Markdown), rivals: null);
            MarkdownTable cycles = new("<precision", "d", "<loop", "multiply-adds", "cycles a vector [95 %]", "share [95 %]");
            foreach (string precision in precisions)
            {
                foreach (int d in ds)
                {
                    if (precision == "float32")
                    {
                        Widest<float>(precision, d, rounds, cycles, listing is null);
                    }
                    else
                    {
                        Widest<double>(precision, d, rounds, cycles, listing is null);
                    }
                }
            }

            if (report is null)
            {
                return 0;
            }

            report.Table(cycles);
            MarkdownTable compiled = new("<loop", "instructions a turn", "multiply-adds", "other arithmetic", "loads", "stores", "moves");
            foreach (InnerLoop loop in listing!)
            {
                compiled.Row(loop.Name, N(loop.Instructions), N(loop.MultiplyAdds), N(loop.OtherVector), N(loop.Loads), N(loop.Stores), N(loop.Moves));
            }

            report.Table(compiled);
            report.Write();
            return 0;
        });
        return command;

        static string N(int count) => count.ToString(CultureInfo.InvariantCulture);
    }

    private static void Widest<T>(string precision, int d, Rounds rounds, MarkdownTable table, bool once)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (Vector512.IsHardwareAccelerated)
        {
            Measure<Lanes512<T>, T>(precision, d, rounds, table, once);
        }
        else
        {
            Measure<Lanes256<T>, T>(precision, d, rounds, table, once);
        }
    }

    private static unsafe void Measure<V, T>(string precision, int d, Rounds rounds, MarkdownTable table, bool once)
        where V : struct, ILanes<V, T>
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int stride = (d + 3) / 4 * 4, w = Tiles<V, T>.Width, keys = LaneRows<V, T>.TileOf(d);
        using AlignedBuffer<T> matrix = Filled<T>((long)keys * stride), queries = Filled<T>((long)stride * w), logits = Filled<T>((long)keys * w);
        using AlignedBuffer<T> start = Filled<T>(w), sums = Filled<T>((long)(stride + 12) * w), products = Filled<T>((long)keys * w);
        T* m = matrix.Start, q = queries.Start, s = logits.Start, z = start.Start, o = sums.Start, p = products.Start;
        int powers = typeof(T) == typeof(float) ? 5 : 11;
        TimedLoop[] loops =
        [
            new("logits: Dot", d, () => Tiles<V, T>.Dot<Plain<V, T>>(m, stride, keys, q, d, z, p, p)),
            new("exponentials: Powers", powers, () =>
            {
                // In place, so what was raised is laid anew each time; what that takes is taken off below.
                Copy();
                Tiles<V, T>.Powers<Narrow>(p, keys, o);
            }),
            new("sums: Accumulate", d, () =>
            {
                for (int k = 0; k < stride; k += 4)
                {
                    Tiles<V, T>.Accumulate(m + k, stride, s, keys, o + ((long)k * w));
                }
            }),
            new("p: Dot, times e", d + 1, () => Tiles<V, T>.Dot<Times<V, T>>(m, stride, keys, q, d, z, s, p)),
        ];
        using Crew crew = new(1);
        TimedPeak peak = new(FmaLoop.For<T>()[^1], crew);
        TimedLoop copy = new("", 0, Copy);
        Timed[] all = [.. loops, copy, peak];
        foreach (Timed timed in all)
        {
            timed.WarmUp(rounds.Clock);
        }

        if (once)
        {
            return;
        }

        int taken = rounds.Run(all);
        double flopsPerCycle = 4.0 * V.Count;
        foreach (TimedLoop loop in loops)
        {
            double Cycles(int r) => (loop.Samples[r] - (loop == loops[1] ? copy.Samples[r] : 0)) / keys / 3 * (peak.FlopsPerCall / peak.Samples[r] / flopsPerCycle);
            table.Row(
                precision, d.ToString(CultureInfo.InvariantCulture), loop.Name, loop.MultiplyAdds.ToString(CultureInfo.InvariantCulture),
                Figures.Ratio(Statistics.Median(taken, Cycles)), Figures.Percent(Statistics.Median(taken, r => loop.MultiplyAdds / 2.0 / Cycles(r))));
        }

        void Copy() => new ReadOnlySpan<T>(s, keys * w).CopyTo(new Span<T>(p, keys * w));
    }

    /// <summary>Numbers between −1 and 1.</summary>
    private static unsafe AlignedBuffer<T> Filled<T>(long length)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        AlignedBuffer<T> buffer = new(length);
        for (long i = 0; i < length; i++)
        {
            buffer.Start[i] = T.CreateTruncating(Math.Sin(i));
        }

        return buffer;
    }

    /// <param name="multiplyAdds">Vectors of them, a vector of pairs.</param>
    private sealed class TimedLoop(string name, int multiplyAdds, Action call) : Timed(name)
    {
        public int MultiplyAdds => multiplyAdds;

        protected override double Time(int calls, Clock clock)
        {
            double start = clock.Seconds();
            for (int i = 0; i < calls; i++)
            {
                call();
            }

            return (clock.Seconds() - start) / calls;
        }
    }
}
