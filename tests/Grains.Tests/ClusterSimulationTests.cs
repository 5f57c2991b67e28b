using Experiments.Grains.Running;
using Experiments.Grains.Worker;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Microsoft.Extensions.Time.Testing;

namespace Experiments.Grains.Tests;

/// <summary>Twenty-four silos' worth of leases on a clock that is moved by hand: the ledgers, the turns and the sizes of shards are the very code that a
/// cluster runs; only the lanes and the store are played.</summary>
public sealed class ClusterSimulationTests(ITestOutputHelper log)
{
    private const int Silos = 24;
    private const int Lanes = 8;

    /// <summary>Trials of log-normal length, σ = 1, that the cost model is wrong about by factors of log-normal length, σ = ½.</summary>
    [Theory]
    [InlineData(1, 0.05, 60)]
    [InlineData(2, 0.05, 10)]
    [InlineData(3, 0.5, 60)]
    [InlineData(4, 0.002, 30)]
    public void The_last_trial_ends_within_a_tenth_of_the_best_that_so_many_lanes_could_do(int seed, double median, double secondsEach)
    {
        Simulation cluster = new(Silos, Lanes, seed);
        Sweep sweep = cluster.Add(priority: 0, median, secondsEach * Silos * Lanes);
        cluster.RunToEnd();
        double best = Math.Max(sweep.Had / (Silos * Lanes), sweep.LongestTrial);
        log.WriteLine($"{sweep.Shards} shards, {cluster.Seconds:F2} s where {best:F2} would be the best: {cluster.Seconds / best:F3}");
        Assert.Equal(sweep.Shards, sweep.Ledger.Done);
        Assert.InRange(cluster.Seconds, best, 1.1 * best);
    }

    [Fact]
    public void Sweeps_of_one_priority_have_the_same_time_whatever_their_trials_cost()
    {
        Simulation cluster = new(Silos, Lanes, seed: 5);
        Sweep[] sweeps = [.. new[] { 0.01, 0.2, 3 }.Select(median => cluster.Add(priority: 0, median, 400.0 * Silos * Lanes))];
        cluster.Run(300);
        double mean = sweeps.Average(s => s.Had);
        Assert.All(sweeps, s => Assert.True(s.Ledger.Ready > 0));
        Assert.All(sweeps, s => Assert.InRange(s.Had, 0.95 * mean, 1.05 * mean));
        Assert.InRange(sweeps.Sum(s => s.Had), 0.97 * 300 * Silos * Lanes, 300 * Silos * Lanes);
    }

    [Fact]
    public void A_sweep_beneath_others_has_its_twentieth_and_ends()
    {
        Simulation cluster = new(Silos, Lanes, seed: 6);
        Sweep beneath = cluster.Add(priority: 0, 0.05, 10.0 * Silos * Lanes), urgent = cluster.Add(priority: 5, 0.05, 400.0 * Silos * Lanes);
        cluster.Run(100);
        Assert.InRange(beneath.Had / (beneath.Had + urgent.Had), 0.04, 0.07);
        cluster.Run(200);
        Assert.Equal(beneath.Shards, beneath.Ledger.Done);
        Assert.True(urgent.Ledger.Ready > 0);
    }

    /// <summary>One silo and a sweep of ten seconds: shards of a second each would leave a lane idle for half a second at the end.</summary>
    [Fact]
    public void Few_lanes_end_a_short_sweep_together()
    {
        List<double> over = [];
        for (int seed = 0; seed < 40; seed++)
        {
            Simulation silo = new(silos: 1, lanes: 2, seed);
            Sweep sweep = silo.Add(priority: 0, median: 0.005, seconds: 20);
            silo.RunToEnd();
            over.Add(silo.Seconds / (sweep.Had / 2));
        }

        log.WriteLine($"{over.Average():F4} of the best in the mean, {over.Max():F4} at most");
        Assert.InRange(over.Average(), 1, 1.01);
    }

    /// <summary>A silo that stops answering keeps its leases until they are over; then others have them, and each shard is done once.</summary>
    [Fact]
    public void What_stopped_silos_held_is_done_by_others()
    {
        Simulation cluster = new(Silos, Lanes, seed: 7);
        Sweep sweep = cluster.Add(priority: 0, 0.05, 40.0 * Silos * Lanes);
        for (int silo = 0; silo < 10; silo++)
        {
            cluster.Run(3);
            cluster.Stop(silo);
        }

        cluster.RunToEnd();
        Assert.Equal(sweep.Shards, sweep.Ledger.Done);
        Assert.Equal(sweep.Shards, sweep.Committed.Count);

        // Forty seconds of work for each of 192 lanes, of which ten silos' did less and held eight or nine shards in vain.
        Assert.InRange(cluster.Seconds, 40, 40 * 1.6);
    }

    private sealed class Sweep(ShardLedger ledger, int shards, double[][] trials)
    {
        public ShardLedger Ledger => ledger;

        public int Shards => shards;

        /// <summary>Lane-seconds that it has had.</summary>
        public double Had { get; set; }

        public double LongestTrial => trials.Max(t => t.Max());

        public HashSet<int> Committed { get; } = [];

        public double SecondsOf(int shard) => trials[shard].Sum();
    }

    private sealed class Silo(LeaseTurns turns, int lanes)
    {
        public LeaseTurns Turns => turns;

        public Dictionary<Sweep, LeaseTurns.Share> Shares { get; } = [];

        /// <summary>What the sweep's last shard cost here, which the next is taken to.</summary>
        public Dictionary<Sweep, double> Last { get; } = [];

        public Queue<Work> Queue { get; } = new();

        public int Idle { get; set; } = lanes;

        public bool Stopped { get; set; }
    }

    private sealed record Work(Silo Silo, Sweep Sweep, ShardLease Lease, double Seconds, LeaseTurns.Turn Turn);

    private sealed class Simulation(int silos, int lanes, int seed)
    {
        private static readonly TimeSpan Lease = TimeSpan.FromSeconds(10);

        private readonly FakeTimeProvider _clock = new();
        private readonly Random _random = new(seed);
        private readonly List<Sweep> _sweeps = [];
        private readonly PriorityQueue<Action, double> _events = new();
        private readonly List<Silo> _silos = [];

        public double Seconds { get; private set; }

        public Sweep Add(int priority, double median, double seconds)
        {
            while (_silos.Count < silos)
            {
                _silos.Add(new Silo(new LeaseTurns(lanes, _clock), lanes));
            }

            (List<ShardRow> rows, List<double[]> trials) = Cut(median, seconds);
            ShardLedger ledger = new(_clock);
            ledger.Load(rows, Lease);
            Sweep sweep = new(ledger, rows.Count, [.. trials]);
            _sweeps.Add(sweep);
            foreach (Silo silo in _silos)
            {
                silo.Shares[sweep] = silo.Turns.Join(priority, lanes, () => { });
            }

            return sweep;
        }

        /// <summary>Its lanes and its renewals stop; what it had begun is never committed.</summary>
        public void Stop(int silo) => _silos[silo].Stopped = true;

        public void RunToEnd()
        {
            while (_sweeps.Exists(s => s.Ledger.Done < s.Shards))
            {
                Run(1);
            }

            Seconds = _ended;
        }

        private double _ended;

        public void Run(double seconds)
        {
            double until = Seconds + seconds;
            Take();
            while (_events.TryPeek(out _, out double at) && at <= until)
            {
                // All that happens at one moment, then whoever has room asks.
                Advance(at);
                while (_events.TryPeek(out Action? happens, out double next) && next <= at)
                {
                    _events.Dequeue();
                    happens();
                }

                Take();
            }

            Advance(until);
        }

        private void Advance(double to)
        {
            _clock.Advance(TimeSpan.FromSeconds(to - Seconds));
            Seconds = to;
        }

        private (List<ShardRow> Rows, List<double[]> Trials) Cut(double median, double seconds)
        {
            CostModel model = new();
            List<ShardRow> rows = [];
            List<double[]> shards = [];
            List<double> trials = [];
            double predicted = 0, before = 0;
            for (double planned = 0; planned < seconds;)
            {
                double takes = median * Math.Exp(Normal()), guess = takes * Math.Exp(0.5 * Normal());
                if (trials.Count > 0 && model.IsTooMuch(trials.Count + 1, predicted + guess, before))
                {
                    Close();
                }

                trials.Add(takes);
                predicted += guess;
                planned += takes;
            }

            Close();
            return (rows, shards);

            void Close()
            {
                rows.Add(new ShardRow(rows.Count, ShardState.Ready, 0, null, rows.Count, rows.Count + 1, 0, trials.Count, 0, predicted, HolderAlive: false));
                shards.Add([.. trials]);
                trials.Clear();
                before += predicted;
                predicted = 0;
            }
        }

        private double Normal() => Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble());

        /// <summary>Silo by silo, from another one each time, as nothing orders their requests.</summary>
        private void Take()
        {
            int first = _random.Next(_silos.Count);
            for (int i = 0; i < _silos.Count; i++)
            {
                Silo silo = _silos[(first + i) % _silos.Count];
                if (!silo.Stopped)
                {
                    Take(silo);
                }
            }
        }

        private void Take(Silo silo)
        {
            HashSet<Sweep> asleep = [];
            for (bool any = true; any;)
            {
                any = false;
                foreach (Sweep sweep in _sweeps.Where(s => !asleep.Contains(s)))
                {
                    int room = silo.Turns.Room(silo.Shares[sweep]);
                    if (room == 0)
                    {
                        continue;
                    }

                    sweep.Ledger.Expire();
                    IReadOnlyList<int> asked = sweep.Ledger.Choose(room);
                    ShardLease[] leases = [.. asked.Select(shard => new ShardLease(1, shard, sweep.Ledger.EpochOf(shard) + 1, 0, 1, 0, 1, 0))];
                    sweep.Ledger.Granted(asked, leases, _silos.IndexOf(silo), Lease);
                    foreach (ShardLease lease in leases)
                    {
                        Work work = new(silo, sweep, lease, sweep.SecondsOf(lease.Shard), silo.Turns.Took(silo.Shares[sweep], silo.Last.GetValueOrDefault(sweep)));
                        silo.Queue.Enqueue(work);
                        _events.Enqueue(() => Renew(work), Seconds + (Lease.TotalSeconds / 3));
                    }

                    any |= leases.Length > 0;
                    if (leases.Length == 0)
                    {
                        silo.Turns.Sleep(silo.Shares[sweep], TimeSpan.FromSeconds(0.5));
                        asleep.Add(sweep);
                    }
                }
            }

            Begin(silo);
        }

        private void Begin(Silo silo)
        {
            while (silo.Idle > 0 && silo.Queue.TryDequeue(out Work? work))
            {
                silo.Idle--;
                _events.Enqueue(() => End(work), Seconds + work.Seconds);
            }
        }

        private void End(Work work)
        {
            if (work.Silo.Stopped)
            {
                return;
            }

            work.Silo.Idle++;
            work.Sweep.Had += work.Seconds;
            work.Silo.Last[work.Sweep] = work.Seconds;
            work.Silo.Turns.Ended(work.Turn, work.Seconds);

            // As the store would: only the latest epoch commits, and once.
            if (work.Sweep.Ledger.Complete(work.Lease))
            {
                Assert.True(work.Sweep.Committed.Add(work.Lease.Shard), $"shard {work.Lease.Shard} twice");
                _ended = Seconds;
            }

            Begin(work.Silo);
        }

        private void Renew(Work work)
        {
            if (!work.Silo.Stopped && work.Sweep.Ledger.Renew(work.Lease, Lease))
            {
                _events.Enqueue(() => Renew(work), Seconds + (Lease.TotalSeconds / 3));
            }
        }
    }
}
