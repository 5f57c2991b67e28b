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
        Assert.InRange(simulation.Lanes[0], 0, 6);
        simulation.Run(TimeSpan.FromSeconds(90));

        Assert.Equal(0, simulation.Left(urgent));
        Assert.InRange(simulation.Lanes[0], 120, 180);
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
        turns.Took(first, 1);
        Assert.Equal(1, turns.Room(second));
        turns.Took(second, 1);
        Assert.Equal(0, turns.Room(second));
        turns.Ended(first, 1, 1);
        Assert.Equal(1, woken);
        turns.Ended(second, 1, 1);
        Assert.Equal(1, woken);
        turns.Leave(first);
        Assert.Equal(2, turns.Room(second));
    }

    /// <summary>Lanes that run what they are given in the order in which it was taken, as the compute pool does.</summary>
    private sealed class Simulation(int lanes, int seed)
    {
        private readonly FakeTimeProvider _clock = new();
        private readonly Random _random = new(seed);
        private readonly List<Sweep> _sweeps = [];
        private readonly Queue<(Sweep Sweep, double Seconds, double Predicted)> _queue = new();
        private readonly List<(Sweep Sweep, double Seconds, double Predicted, DateTimeOffset End)> _running = [];
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

        public void Run(TimeSpan time)
        {
            DateTimeOffset until = _clock.GetUtcNow() + time;
            while (_clock.GetUtcNow() < until)
            {
                Take();
                Begin();
                DateTimeOffset next = _running.Min(r => r.End);
                _clock.SetUtcNow(next < until ? next : until);
                foreach ((Sweep sweep, double seconds, double predicted, DateTimeOffset end) in _running.FindAll(r => r.End <= _clock.GetUtcNow()))
                {
                    _running.Remove((sweep, seconds, predicted, end));
                    double had = sweep.Exclusive ? seconds * lanes : seconds;
                    sweep.Had += had;
                    _turns!.Ended(sweep.Share, predicted, had);
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
                        _turns.Took(sweep.Share, sweep.Last);
                        _queue.Enqueue((sweep, sweep.Seconds * Math.Exp(_random.NextDouble() - 0.5), sweep.Last));
                        sweep.Left--;
                        any = true;
                    }
                }
            }
        }

        private void Begin()
        {
            while (_queue.TryPeek(out (Sweep Sweep, double Seconds, double Predicted) next)
                && !_running.Exists(r => r.Sweep.Exclusive) && (next.Sweep.Exclusive ? _running.Count == 0 : _running.Count < lanes))
            {
                _queue.Dequeue();
                _running.Add((next.Sweep, next.Seconds, next.Predicted, _clock.GetUtcNow() + TimeSpan.FromSeconds(next.Seconds)));
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
