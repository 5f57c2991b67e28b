using Experiments.Grains.Running;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Tests;

public sealed class PairedRoundsTests
{
    [Fact]
    public void Each_round_times_every_trial_once_and_begins_one_place_further_on()
    {
        List<string> log = [];
        Timed[] trials = [new("a", log), new("b", log), new("c", log)];
        int rounds = PairedRounds.Run(trials, new Measure { Rounds = 4, MinTime = TimeSpan.Zero, MaxNoise = 0 }, 99);

        Assert.Equal(4, rounds);
        string[][] byRound = [.. log.Chunk(3)];
        Assert.All(byRound, r => Assert.Equal(["a", "b", "c"], r.Order()));
        for (int i = 1; i < 4; i++)
        {
            Assert.Equal([byRound[i - 1][1], byRound[i - 1][2], byRound[i - 1][0]], byRound[i]);
        }
    }

    [Fact]
    public void The_order_repeats_from_the_instances_key_and_differs_between_keys()
    {
        Assert.Equal(PairedRounds.Order(20, 5), PairedRounds.Order(20, 5));
        Assert.NotEqual(PairedRounds.Order(20, 5), PairedRounds.Order(20, 6));
        Assert.Equal(Enumerable.Range(0, 20), PairedRounds.Order(20, 5).Order());
    }

    [Fact]
    public void A_sample_makes_enough_calls_to_fill_its_share_of_the_time()
    {
        Timed trial = new("a", []) { Seconds = 1e-3 };
        PairedRounds.Run([trial], new Measure { Rounds = 5, MinTime = TimeSpan.FromMilliseconds(50), MaxNoise = 0 }, 1);

        Assert.Equal([10, 10, 10, 10, 10], trial.Calls);
    }

    [Fact]
    public void One_round_and_no_least_time_is_exactly_one_call()
    {
        Timed trial = new("a", []) { Seconds = 1e-9 };
        PairedRounds.Run([trial], new Measure { Rounds = 1, MinTime = TimeSpan.Zero }, 1);

        Assert.Equal([1], trial.Calls);
    }

    [Fact]
    public void Noise_adds_rounds_for_all_trials_up_to_four_times_and_quiet_ones_end_at_once()
    {
        Timed noisy = new("a", []) { Spread = 0.9 };
        Timed quiet = new("b", []);
        Measure measure = new() { Rounds = 5, MinTime = TimeSpan.Zero, MaxNoise = 0.02 };

        Assert.Equal(20, PairedRounds.Run([noisy, quiet], measure, 1));
        Assert.Equal(20, quiet.Samples.Count);
        Assert.Equal(5, PairedRounds.Run([new Timed("c", [])], measure, 1));
    }

    [Fact]
    public void A_trial_that_fails_in_a_round_is_not_called_again_and_the_others_go_on()
    {
        Timed failing = new("a", []) { FailsAt = 2 };
        Timed sound = new("b", []);
        PairedRounds.Run([failing, sound], new Measure { Rounds = 5, MinTime = TimeSpan.Zero, MaxNoise = 0 }, 1);

        Assert.Equal(3, failing.Calls.Count);
        Assert.Equal(5, sound.Samples.Count);
    }

    [Theory]
    [InlineData(new double[] { 3 }, 3, 0)]
    [InlineData(new double[] { 1, 2, 4, 9 }, 3, 1.5)]
    [InlineData(new double[] { 5, 1, 3 }, 3, 2)]
    public void Median_and_deviation_are_the_textbooks(double[] values, double median, double deviation)
    {
        Assert.Equal(median, PairedRounds.Median(values));
        Assert.Equal(deviation, PairedRounds.MedianAbsoluteDeviation(values, median));
    }

    private sealed class Timed(string name, List<string> log) : ITimedTrial
    {
        public double Seconds { get; init; } = 1;

        public double Spread { get; init; }

        public int FailsAt { get; init; } = int.MaxValue;

        public List<int> Calls { get; } = [];

        public bool Continues { get; private set; } = true;

        public double EstimatedSeconds => Seconds;

        public List<double> Samples { get; } = [];

        public double TakeSample(int calls)
        {
            log.Add(name);
            Calls.Add(calls);
            if (Calls.Count > FailsAt)
            {
                Continues = false;
                return double.NaN;
            }

            return Seconds * (1 + (Spread * (Calls.Count * 7 % 11) / 11));
        }
    }
}
