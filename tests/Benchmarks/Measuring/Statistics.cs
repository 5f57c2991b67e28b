namespace Experiments.Benchmarks.Measuring;

/// <param name="Value">The estimate itself.</param>
/// <param name="Low">Lower end of its 95 % interval.</param>
/// <param name="High">Upper end.</param>
internal readonly record struct Interval(double Value, double Low, double High);

/// <summary>Medians, and 95 % intervals by the bootstrap over rounds.</summary>
internal static class Statistics
{
    private const int Resamples = 4000;

    public static double Median(IReadOnlyList<double> values)
    {
        double[] sorted = [.. values];
        Array.Sort(sorted);
        int middle = sorted.Length / 2;
        return sorted.Length == 0 ? double.NaN
            : sorted.Length % 2 == 1 ? sorted[middle]
            : 0.5 * (sorted[middle - 1] + sorted[middle]);
    }

    /// <summary>Median of a number that every round has one of.</summary>
    public static Interval Median(int rounds, Func<int, double> ofRound)
    {
        double[] values = [.. Enumerable.Range(0, rounds).Select(ofRound)];
        return Bootstrap(rounds, chosen => Median([.. chosen.Select(r => values[r])]));
    }

    /// <summary>Any statistic of the rounds, with the interval that resampling whole rounds gives it.</summary>
    /// <remarks>Percentile bootstrap (Efron and Tibshirani 1993, chapter 13). A round's samples stay together, so a slow
    /// spell of the machine stays paired. The seed is fixed: the same samples give the same interval.</remarks>
    public static Interval Bootstrap(int rounds, Func<int[], double> statistic)
    {
        int[] chosen = [.. Enumerable.Range(0, rounds)];
        double value = statistic(chosen);
        Random random = new(2402);
        double[] estimates = new double[Resamples];
        for (int i = 0; i < Resamples; i++)
        {
            for (int r = 0; r < rounds; r++)
            {
                chosen[r] = random.Next(rounds);
            }

            estimates[i] = statistic(chosen);
        }

        Array.Sort(estimates);
        return new(value, estimates[(int)(0.025 * Resamples)], estimates[(int)(0.975 * Resamples) - 1]);
    }

    /// <summary>Slope of the least-squares line through points.</summary>
    public static double Slope(IReadOnlyList<(double X, double Y)> points)
    {
        double meanX = points.Average(p => p.X), meanY = points.Average(p => p.Y);
        return points.Sum(p => (p.X - meanX) * (p.Y - meanY)) / points.Sum(p => (p.X - meanX) * (p.X - meanX));
    }
}
