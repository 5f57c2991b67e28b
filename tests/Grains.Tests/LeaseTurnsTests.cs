using Experiments.Grains.Worker;
using Microsoft.Extensions.Time.Testing;

namespace Experiments.Grains.Tests;

/// <summary>One silo's lanes on a clock that is moved by hand, with the very code that decides whose turn it is.</summary>
public sealed class LeaseTurnsTests
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(4, 2)]
    [InlineData(15, 3)]
    public void Sweeps_that_always_have_work_get_the_same_time_whatever_their_shards_cost(int lanes, int seed)
    {
        Simulation simulation = new(lanes, seed);
        simulation.Add(priority: 0, most: lanes, seconds: 0.2);
        simulation.Add(priority: 0, most: lanes, seconds: 1);
        simulation.Add(priority: 0, most: lanes, seconds: 3);
        simulation.Run(TimeSpan.FromMinutes(30));

        double mean = simulation.Lanes.Average();
        Assert.All(simulation.Lanes, had => Assert.InRange(had, 0.95 * mean, 1.05 * mean));
        Assert.InRange(simulation.Lanes.Sum(), 0.97 * lanes * 1800, lanes * 1800);
    }

    [Fact]
    public void A_sweep_that_comes_later_neither_catches_up_nor_starves()
    {
        Simulation simulation = new(lanes: 3, seed: 5);
        simulation.Add(priority: 0, most: 3, seconds: 1);
        simulation.Run(TimeSpan.FromMinutes(10));
        double before = simulation.Lanes[0];
        simulation.Add(priority: 0, most: 3, seconds: 1);
        simulation.Run(TimeSpan.FromMinutes(10));

        double had = simulation.Lanes[0] - before;
        Assert.InRange(simulation.Lanes[1], 0.95 * had, 1.05 * had);
    }

    [Fact]
    public void A_sweep_of_higher_priority_goes_first_and_the_others_get_what_it_leaves()
    {
        Simulation simulation = new(lanes: 2, seed: 7);
        simulation.Add(priority: 0, most: 2, seconds: 1);
        int urgent = simulation.Add(priority: 5, most: 2, seconds: 1, shards: 200);
        simulation.Run(TimeSpan.FromSeconds(90));
        Assert.InRange(simulation.Lanes[0], 6, 14);
        simulation.Run(TimeSpan.FromSeconds(90));

        Assert.Equal(0, simulation.Left(urgent));
        Assert.InRange(simulation.Lanes[0], 120, 180);
    }

    [Theory]
    [InlineData(1, 11, false)]
    [InlineData(4, 12, false)]
    [InlineData(15, 13, false)]
    [InlineData(1, 14, true)]
    [InlineData(4, 15, true)]
    [InlineData(15, 16, true)]
    public void The_highest_has_nine_tenths_while_it_has_work_and_nobody_beneath_it_starves(int lanes, int seed, bool exclusive)
    {
        Simulation simulation = new(lanes, seed);
        int most = exclusive ? 1 : lanes;
        simulation.Add(priority: -3, most, seconds: 1, exclusive: exclusive);
        simulation.Add(priority: -3, most, seconds: 3, exclusive: exclusive);
        simulation.Add(priority: 2, most, seconds: 0.3, exclusive: exclusive);
        simulation.Run(TimeSpan.FromMinutes(10));
        double[] before = [.. simulation.Lanes];

        // It comes when the queue is full of others' shards, as long as it likes.
        simulation.Add(priority: 9, most, seconds: 2, exclusive: exclusive);
        simulation.Run(TimeSpan.FromHours(4));

        double all = lanes * 4 * 3600;
        Assert.InRange(simulation.Lanes[3], 0.93 * all, 0.96 * all);
        double[] spared = [.. before.Select((had, i) => simulation.Lanes[i] - had)];
        Assert.All(spared, had => Assert.InRange(had, 0.95 * spared.Average(), 1.05 * spared.Average()));
        Assert.InRange(spared.Sum(), 0.04 * all, 0.06 * all);
    }

    [Fact]
    public void Shards_much_longer_than_what_is_owed_are_paid_for_afterwards()
    {
        Simulation simulation = new(lanes: 4, seed: 17);
        simulation.Add(priority: 1, most: 4, seconds: 0.5);
        simulation.Add(priority: 0, most: 4, seconds: 100);
        simulation.Run(TimeSpan.FromMinutes(10));

        // Of its first shard nothing was known, but that it was one.
        Assert.InRange(simulation.Lanes[1], 50, 200);
        simulation.Run(TimeSpan.FromHours(10));
        Assert.InRange(simulation.Lanes[1] / simulation.Lanes.Sum(), 0.04, 0.06);
    }

    [Fact]
    public void What_was_not_had_for_want_of_work_is_not_caught_up_on()
    {
        Simulation simulation = new(lanes: 2, seed: 19);
        simulation.Add(priority: 1, most: 2, seconds: 1);
        int low = simulation.Add(priority: 0, most: 2, seconds: 1, shards: 5);
        simulation.Run(TimeSpan.FromHours(1));
        Assert.Equal(0, simulation.Left(low));
        double before = simulation.Lanes[low];
        simulation.Refill(low);
        simulation.Run(TimeSpan.FromMinutes(5));
        Assert.InRange(simulation.Lanes[low] - before, 0.03 * 600, 0.07 * 600);
    }

    [Fact]
    public void A_change_of_priority_counts_from_then_on_and_takes_nothing_back()
    {
        Simulation simulation = new(lanes: 3, seed: 23);
        int first = simulation.Add(priority: 0, most: 3, seconds: 1);
        int second = simulation.Add(priority: 0, most: 3, seconds: 1);
        simulation.Run(TimeSpan.FromMinutes(10));
        double[] before = [.. simulation.Lanes];
        simulation.SetPriority(second, 1);
        simulation.Run(TimeSpan.FromMinutes(10));
        double[] raised = [.. simulation.Lanes.Zip(before, (now, then) => now - then)];
        Assert.InRange(raised[second] / raised.Sum(), 0.93, 0.97);

        // Equals again: the other does not catch up on what it gave.
        before = [.. simulation.Lanes];
        simulation.SetPriority(first, 1);
        simulation.Run(TimeSpan.FromMinutes(10));
        Assert.InRange((simulation.Lanes[first] - before[first]) / (simulation.Lanes[second] - before[second]), 0.95, 1.05);
    }

    [Fact]
    public void One_that_needs_the_host_to_itself_takes_turns_with_one_that_does_not()
    {
        Simulation simulation = new(lanes: 4, seed: 9);
        simulation.Add(priority: 0, most: 1, seconds: 2, exclusive: true);
        simulation.Add(priority: 0, most: 4, seconds: 1);
        simulation.Run(TimeSpan.FromMinutes(30));

        // Lane-seconds: an exclusive shard has all four lanes, whether it uses them or not.
        Assert.InRange(simulation.Lanes[0] / simulation.Lanes[1], 0.9, 1.1);
    }

    [Fact]
    public void Nobody_is_told_of_room_that_is_not_there_and_whoever_waits_is_told_of_what_is()
    {
        LeaseTurns turns = new(1, new FakeTimeProvider());
        int woken = 0;
        LeaseTurns.Share first = turns.Join(0, 1, () => { }), second = turns.Join(0, 1, () => woken++);
        Assert.Equal(1, turns.Room(first));
        Assert.Equal(0, turns.Room(second));
        LeaseTurns.Turn of = turns.Took(first, 1);
        Assert.Equal(1, woken);
        Assert.Equal(1, turns.Room(second));
        LeaseTurns.Turn other = turns.Took(second, 1);
        Assert.Equal(0, turns.Room(second));
        turns.Ended(of, 1);
        Assert.Equal(2, woken);
        turns.Ended(other, 1);
        Assert.Equal(2, woken);
        turns.Leave(first);
        Assert.Equal(2, turns.Room(second));
    }

    [Fact]
    public void One_that_is_to_be_spared_and_whose_lease_is_slow_to_come_holds_nobody_up()
    {
        LeaseTurns turns = new(2, new FakeTimeProvider());
        int woken = 0;
        LeaseTurns.Share high = turns.Join(1, 2, () => woken++), low = turns.Join(0, 2, () => { });
        Assert.Equal(0, turns.Room(low));
        Assert.Equal(3, turns.Room(high));
        turns.Ended(turns.Took(high, 0), 40);

        // Its turn has come, and until it asks it is waited for.
        Assert.Equal(0, turns.Room(high));
        Assert.Equal(1, turns.Room(low));
        Assert.Equal(3, turns.Room(high));
        turns.Sleep(low, TimeSpan.Zero);
        Assert.Equal(0, turns.Room(high));
        Assert.Equal(1, turns.Room(low));
        Assert.Equal(1, woken);
        turns.Took(low, 5);
        Assert.Equal(2, woken);
        Assert.Equal(0, turns.Room(low));
        Assert.Equal(2, turns.Room(high));
    }

    /// <summary>Lanes that run what they are given in the order in which it was taken, as the compute pool does.</summary>
    private sealed class Simulation(int lanes, int seed)
    {
        private readonly FakeTimeProvider _clock = new();
        private readonly Random _random = new(seed);
        private readonly List<Sweep> _sweeps = [];
        private readonly Queue<(Sweep Sweep, double Seconds, LeaseTurns.Turn Turn)> _queue = new();
        private readonly List<(Sweep Sweep, double Seconds, LeaseTurns.Turn Turn, DateTimeOffset End)> _running = [];
        private LeaseTurns? _turns;

        /// <summary>Lane-seconds that each sweep has had.</summary>
        public IReadOnlyList<double> Lanes => [.. _sweeps.Select(s => s.Had)];

        public int Add(int priority, int most, double seconds, int shards = int.MaxValue, bool exclusive = false)
        {
            _turns ??= new LeaseTurns(lanes, _clock);
            _sweeps.Add(new Sweep(_turns.Join(priority, most, () => { }), seconds, exclusive) { Left = shards });
            return _sweeps.Count - 1;
        }

        public int Left(int sweep) => _sweeps[sweep].Left;

        public void Refill(int sweep) => _sweeps[sweep].Left = int.MaxValue;

        public void SetPriority(int sweep, int priority) => _turns!.SetPriority(_sweeps[sweep].Share, priority);

        public void Run(TimeSpan time)
        {
            DateTimeOffset until = _clock.GetUtcNow() + time;
            while (_clock.GetUtcNow() < until)
            {
                Take();
                Begin();
                DateTimeOffset next = _running.Min(r => r.End);
                _clock.SetUtcNow(next < until ? next : until);
                foreach ((Sweep sweep, double seconds, LeaseTurns.Turn turn, DateTimeOffset end) in _running.FindAll(r => r.End <= _clock.GetUtcNow()))
                {
                    _running.Remove((sweep, seconds, turn, end));
                    double had = sweep.Exclusive ? seconds * lanes : seconds;
                    sweep.Had += had;
                    _turns!.Ended(turn, had);
                    sweep.Last = had;
                }
            }
        }

        private void Take()
        {
            HashSet<Sweep> asleep = [];
            for (bool any = true; any;)
            {
                any = false;
                foreach (Sweep sweep in _sweeps.Where(s => !asleep.Contains(s)).ToList())
                {
                    int room = _turns!.Room(sweep.Share);
                    if (room > 0 && sweep.Left == 0)
                    {
                        // It has asked the store in vain; whoever waited for its turn is asked again.
                        _turns.Sleep(sweep.Share, TimeSpan.FromSeconds(0.5));
                        any = asleep.Add(sweep);
                    }

                    for (int i = 0; i < Math.Min(room, sweep.Left); i++)
                    {
                        // As in a session, a shard is predicted to cost what the last one did.
                        LeaseTurns.Turn turn = _turns.Took(sweep.Share, sweep.Last);
                        _queue.Enqueue((sweep, sweep.Seconds * Math.Exp(_random.NextDouble() - 0.5), turn));
                        sweep.Left--;
                        any = true;
                    }
                }
            }
        }

        private void Begin()
        {
            while (_queue.TryPeek(out (Sweep Sweep, double Seconds, LeaseTurns.Turn Turn) next)
                && !_running.Exists(r => r.Sweep.Exclusive) && (next.Sweep.Exclusive ? _running.Count == 0 : _running.Count < lanes))
            {
                _queue.Dequeue();
                _running.Add((next.Sweep, next.Seconds, next.Turn, _clock.GetUtcNow() + TimeSpan.FromSeconds(next.Seconds)));
            }
        }

        private sealed class Sweep(LeaseTurns.Share share, double seconds, bool exclusive)
        {
            public LeaseTurns.Share Share { get; } = share;

            public double Seconds { get; } = seconds;

            public bool Exclusive { get; } = exclusive;

            public int Left { get; set; }

            public double Had { get; set; }

            public double Last { get; set; }
        }
    }
}
