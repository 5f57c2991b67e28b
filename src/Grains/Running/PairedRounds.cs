using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>One of the trials that are timed against each other.</summary>
public interface ITimedTrial
{
    /// <summary>False once it has failed or used up its time: it is not called again.</summary>
    bool Continues { get; }

    /// <summary>Seconds one call is thought to take, from the last one that was measured.</summary>
    double EstimatedSeconds { get; }

    /// <summary>Seconds per call, a number a round.</summary>
    List<double> Samples { get; }

    /// <summary>Makes the calls of one sample, one after another, and returns the seconds of one; or NaN when the trial
    /// failed or ran out of time, which ends it.</summary>
    double TakeSample(int calls);
}

/// <summary>The rounds in which an instance's trials are timed: each round times every trial once, side by side in time.</summary>
/// <remarks>
/// A slow spell of the machine then falls on all the trials of a round alike, and a ratio of two samples of one round cancels
/// it; asv interleaves its rounds for the same reason. The order is shuffled once by the instance's key and moves on by one
/// place a round, so that no trial always follows the same neighbour into a warm cache, and it repeats from the row.
/// </remarks>
public static class PairedRounds
{
    /// <summary>How many times the asked rounds noise may add up to.</summary>
    public const int MostTimesRounds = 4;

    /// <summary>Times the trials. Every trial that continues has a sample for every round up to the number returned.</summary>
    public static int Run<TTrial>(IReadOnlyList<TTrial> trials, Measure measure, ulong key)
        where TTrial : ITimedTrial
    {
        ArgumentNullException.ThrowIfNull(trials);
        ArgumentNullException.ThrowIfNull(measure);
        int rounds = Math.Max(1, measure.Rounds);
        double share = measure.MinTime.TotalSeconds / rounds;
        int[]? order = trials.Count > 1 ? Order(trials.Count, key) : null;
        int round = 0;
        while (round < rounds || (round < MostTimesRounds * rounds && Noisy(trials, measure.MaxNoise)))
        {
            bool any = false;
            for (int i = 0; i < trials.Count; i++)
            {
                TTrial trial = trials[order is null ? i : order[(i + round) % order.Length]];
                if (!trial.Continues)
                {
                    continue;
                }

                double seconds = trial.TakeSample(Calls(share, trial.EstimatedSeconds));
                if (!double.IsNaN(seconds))
                {
                    trial.Samples.Add(seconds);
                    any = true;
                }
            }

            if (!any)
            {
                return round;
            }

            round++;
        }

        return round;
    }

    /// <summary>The order of round 0; round r begins r places further on.</summary>
    public static int[] Order(int count, ulong key)
    {
        int[] order = new int[count];
        for (int i = 0; i < count; i++)
        {
            order[i] = i;
        }

        for (int i = count - 1; i > 0; i--)
        {
            // SplitMix64 (Steele, Lea and Flood 2014): one step a draw, the modulo's bias is below 2^-50.
            key += 0x9E3779B97F4A7C15;
            ulong mixed = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9;
            mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
            mixed ^= mixed >> 31;
            int j = (int)(mixed % (ulong)(i + 1));
            (order[i], order[j]) = (order[j], order[i]);
        }

        return order;
    }

    /// <summary>Calls of one sample: enough that it fills its share of <c>min_time</c>, and at least one.</summary>
    public static int Calls(double share, double estimate) =>
        share <= 0 ? 1 : (int)Math.Clamp(Math.Ceiling(share / Math.Max(estimate, 1e-9)), 1, 10_000_000);

    /// <summary>Median of a few numbers; NaN of none.</summary>
    public static double Median(ReadOnlySpan<double> values)
    {
        switch (values.Length)
        {
            case 0:
                return double.NaN;
            case 1:
                return values[0];
        }

        double[] sorted = values.ToArray();
        Array.Sort(sorted);
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : 0.5 * (sorted[middle - 1] + sorted[middle]);
    }

    /// <summary>Median of the absolute deviations from the median.</summary>
    public static double MedianAbsoluteDeviation(ReadOnlySpan<double> values, double median)
    {
        if (values.Length < 2)
        {
            return 0;
        }

        double[] deviations = new double[values.Length];
        for (int i = 0; i < deviations.Length; i++)
        {
            deviations[i] = Math.Abs(values[i] - median);
        }

        return Median(deviations);
    }

    /// <summary>Relative standard error of the median: 1.4826 MAD estimates the spread of a normal sample, and the median's
    /// error is √(π/2) = 1.2533 times the mean's.</summary>
    public static double NoiseOf(ReadOnlySpan<double> samples)
    {
        double median = Median(samples);
        return 1.2533 * 1.4826 * MedianAbsoluteDeviation(samples, median) / (median * Math.Sqrt(samples.Length));
    }

    private static bool Noisy<TTrial>(IReadOnlyList<TTrial> trials, double most)
        where TTrial : ITimedTrial
    {
        if (most <= 0)
        {
            return false;
        }

        for (int i = 0; i < trials.Count; i++)
        {
            if (trials[i].Continues
                && NoiseOf(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(trials[i].Samples)) > most)
            {
                return true;
            }
        }

        return false;
    }
}
