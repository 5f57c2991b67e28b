using System.Diagnostics;
using Experiments.Benchmarks.Contenders;

namespace Experiments.Benchmarks.Measuring;

/// <summary>Something that is timed once a round.</summary>
internal abstract class Timed(string name)
{
    public string Name => name;

    /// <summary>Seconds of one call, a number a round.</summary>
    public List<double> Samples { get; } = [];

    /// <summary>Seconds of a call, the quicker of two after the warm-up.</summary>
    public double Estimate { get; private set; }

    public double Median => Statistics.Median(Samples);

    /// <summary>Three calls: the first pays for compilation and first touches, the others say how many make a sample.</summary>
    public void WarmUp(Clock clock)
    {
        Time(1, clock);
        Estimate = Math.Min(Time(1, clock), Time(1, clock));
    }

    public void Take(double leastSeconds, Clock clock) =>
        Samples.Add(Time(Calls(leastSeconds), clock));

    /// <summary>Calls of one sample: enough for its time, and at least one.</summary>
    public int Calls(double leastSeconds) =>
        (int)Math.Clamp(Math.Ceiling(leastSeconds / Math.Max(Estimate, 1e-9)), 1, 1_000_000);

    /// <summary>Seconds of one of so many calls made one after another.</summary>
    protected abstract double Time(int calls, Clock clock);
}

/// <summary>A contender under the clock.</summary>
internal sealed class TimedContender(IContender contender) : Timed(contender.Name), IDisposable
{
    public IContender Contender => contender;

    public void Dispose() => contender.Dispose();

    protected override double Time(int calls, Clock clock)
    {
        contender.Prepare();
        double start = clock.Seconds();
        for (int i = 0; i < calls; i++)
        {
            contender.Compute();
        }

        return (clock.Seconds() - start) / calls;
    }
}

/// <summary>The multiply-add loop under the clock: a call is a millisecond's worth of turns on every thread.</summary>
internal sealed class TimedPeak(FmaLoop loop, Crew crew) : Timed($"FMA loop, {loop.Bits} bits")
{
    private const long Turns = 200_000;

    public int Bits => loop.Bits;

    public int Threads => crew.Threads;

    /// <summary>Floating-point operations of one call, over all threads.</summary>
    public double FlopsPerCall => Turns * loop.FlopsPerTurn * crew.Threads;

    protected override double Time(int calls, Clock clock) =>
        crew.Run(() => loop.Run(calls * Turns), clock) / calls;
}

/// <summary>The rounds in which things are timed: each once a round, side by side in time.</summary>
/// <remarks>A slow spell of the machine then falls on all of a round alike, and a ratio within a round cancels it.</remarks>
internal sealed class Rounds(int count, double sampleSeconds, double limitSeconds, Clock clock)
{
    /// <summary>Fewest rounds that an interval is made of, however slow they are.</summary>
    public const int Least = 3;

    // A thread pool that spins after its last task (libgomp's does for about a millisecond) must not eat into the next sample.
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    public Clock Clock => clock;

    /// <summary>Times everything, and returns how many rounds there were time for.</summary>
    public int Run(IReadOnlyList<Timed> all)
    {
        Stopwatch elapsed = Stopwatch.StartNew();
        for (int round = 0; round < count; round++)
        {
            if (round >= Least && elapsed.Elapsed.TotalSeconds * (round + 1) / round > limitSeconds)
            {
                return round;
            }

            // The order turns round and the first moves on, so that none always follows the same neighbour.
            for (int i = 0; i < all.Count; i++)
            {
                int at = (i + round) % all.Count;
                Timed next = all[round % 2 == 0 ? at : all.Count - 1 - at];
                Thread.Sleep(Pause);
                next.Take(sampleSeconds, clock);
            }
        }

        return count;
    }
}
