using CsCheck;
using Experiments.Grains.Running;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Testing;
using Microsoft.Extensions.Time.Testing;

namespace Experiments.Grains.Tests;

/// <summary>The ledger against a store of a few lines that decides as Postgres does. CsCheck prints the seed of a failure.</summary>
public sealed class ShardLedgerTests
{
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(30);

    [Fact]
    public void The_longest_shard_is_handed_out_first_and_the_lowest_number_among_equals()
    {
        ShardLedger ledger = new(new FakeTimeProvider());
        ledger.Load([Row(0, 1), Row(1, 5), Row(2, 5), Row(3, 2)], Lease);

        Assert.Equal([1, 2, 3, 0], ledger.Choose(9));
    }

    [Fact]
    public void A_shard_that_is_leased_is_not_handed_out_until_its_lease_is_over()
    {
        FakeTimeProvider time = new();
        ShardLedger ledger = new(time);
        ledger.Load([Row(0, 1)], Lease);
        ledger.Granted(ledger.Choose(1), [LeaseOf(0, 1)], 7, Lease);

        Assert.Empty(ledger.Choose(1));
        time.Advance(Lease - TimeSpan.FromSeconds(1));
        Assert.Equal(0, ledger.Expire());
        Assert.True(ledger.Renew(LeaseOf(0, 1), Lease));
        time.Advance(Lease - TimeSpan.FromSeconds(1));
        Assert.Equal(0, ledger.Expire());
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(1, ledger.Expire());
        Assert.Equal([0], ledger.Choose(1));
    }

    [Fact]
    public void What_a_silo_has_no_room_for_is_asked_for_when_nothing_else_is_left_and_stays_for_the_others()
    {
        ShardLedger ledger = new(new FakeTimeProvider());
        ledger.Load(
            [Row(0, 9) with { NeedsFreeBytes = 2000 }, Row(1, 8) with { NeedsCores = 4 }, Row(2, 7), Row(3, 6), Row(4, 5) with { NeedsFreeBytes = 500, NeedsCores = 2 }],
            Lease);
        Assert.Equal([2], ledger.Choose(1, 1000, 2));
        Assert.Equal([3, 4, 0], ledger.Choose(3, 1000, 2));
        Assert.Equal([1], ledger.Choose(3));
        Assert.Empty(ledger.Choose(3));
    }

    [Fact]
    public void A_refused_shard_makes_the_ledger_stale_and_is_not_asked_for_again_before_it_is_loaded()
    {
        ShardLedger ledger = new(new FakeTimeProvider());
        ledger.Load([Row(0, 1), Row(1, 1)], Lease);
        ledger.Granted(ledger.Choose(2), [LeaseOf(1, 3)], 7, Lease);

        Assert.True(ledger.Stale);
        Assert.Empty(ledger.Choose(2));
        ledger.Load([Row(0, 1), Row(1, 1, ShardState.Leased, 3)], Lease);
        Assert.Equal([0], ledger.Choose(2));
    }

    [Fact]
    public void A_shard_whose_holder_is_dead_is_ready_as_soon_as_the_rows_are_loaded()
    {
        ShardLedger ledger = new(new FakeTimeProvider());
        ledger.Load([Row(0, 1, ShardState.Leased, 4, alive: false), Row(1, 1, ShardState.Leased, 4)], Lease);

        Assert.Equal([0], ledger.Choose(2));
    }

    [Fact]
    public void What_the_dead_have_left_comes_before_everything_else()
    {
        ShardLedger ledger = new(new FakeTimeProvider());
        ledger.Load([Row(0, 1, ShardState.Leased, 4), Row(1, 9), Row(2, 2, ShardState.Leased, 4, alive: false), Row(3, 5, ShardState.Done)], Lease);
        Assert.False(ledger.LeasedToOthers(1));
        Assert.True(ledger.LeasedToOthers(2));

        // What the store says of a shard that stands here as done or ready is nothing new.
        ledger.Orphaned([0, 1, 3, 17]);
        Assert.Equal([0, 2, 1], ledger.Choose(9));

        // Once it is leased again it is like any other.
        ledger.Granted([0, 2, 1], [LeaseOf(0, 5), LeaseOf(1, 1), LeaseOf(2, 5)], 2, Lease);
        Assert.True(ledger.Release(LeaseOf(0, 5)) && ledger.Release(LeaseOf(1, 1)));
        Assert.Equal([1, 0], ledger.Choose(9));
    }

    [Fact]
    public void Word_of_an_older_lease_changes_nothing()
    {
        ShardLedger ledger = new(new FakeTimeProvider());
        ledger.Load([Row(0, 1, ShardState.Leased, 5)], Lease);

        Assert.False(ledger.Complete(LeaseOf(0, 4)));
        Assert.False(ledger.Release(LeaseOf(0, 4)));
        Assert.False(ledger.Renew(LeaseOf(0, 4), Lease));
        Assert.Equal(ShardState.Leased, ledger.StateOf(0));
    }

    [Fact]
    public void Rows_that_are_not_numbered_once_each_are_refused() =>
        Assert.Throws<ArgumentException>(() => new ShardLedger(new FakeTimeProvider()).Load([Row(0, 1), Row(0, 1)], Lease));

    [Fact]
    public void Whatever_happens_the_ledger_never_loses_a_shard_and_the_store_grants_each_to_one_holder_at_a_time() =>
        Gen.Select(Gen.Int[1, 12], Gen.Select(Gen.Int[0, 7], Gen.Int[0, 1000]).Array[0, 120]).SampleFixed(script =>
        {
            (int shards, (int, int)[] steps) = script;
            Model model = new(shards);
            foreach ((int step, int pick) in steps)
            {
                model.Step(step, pick);
            }

            // However it got here, what is left can still be run to the end.
            Assert.True(model.RunToTheEnd(), "a shard was lost: it is not done and nobody can lease it");
        });

    private static ShardRow Row(
        int number, double seconds, ShardState state = ShardState.Ready, int epoch = 0, bool alive = true) =>
        new(number, state, epoch, state == ShardState.Ready ? null : 1, number, number + 1, number, 1, 0, seconds, alive);

    private static ShardLease LeaseOf(int shard, int epoch) => new(1, shard, epoch, shard, shard + 1, shard, 1, 0);

    /// <summary>Two ledgers, as of two clusters, over one table of shards.</summary>
    private sealed class Model
    {
        private readonly FakeTimeProvider _time = new();
        private readonly (ShardState State, int Epoch, long Until, int Commits)[] _rows;
        private readonly ShardLedger[] _ledgers;
        private readonly List<(int Ledger, ShardLease Lease)> _held = [];

        public Model(int shards)
        {
            _rows = new (ShardState, int, long, int)[shards];
            _ledgers = [new ShardLedger(_time), new ShardLedger(_time)];
            Load(0);
            Load(1);
        }

        public void Step(int step, int pick)
        {
            int ledger = pick & 1;
            switch (step)
            {
                case 0:
                case 1:
                case 2:
                    Take(ledger, 1 + (pick % 3));
                    break;
                case 3 when _held.Count > 0:
                    Commit(pick % _held.Count);
                    break;
                case 4 when _held.Count > 0:
                    Release(pick % _held.Count);
                    break;
                case 5 when _held.Count > 0:
                    Renew(pick % _held.Count);
                    break;
                case 6:
                    _time.Advance(TimeSpan.FromSeconds(pick % 40));
                    break;
                case 7:
                    Load(ledger);
                    break;
            }

            foreach (ShardLedger each in _ledgers)
            {
                Assert.Equal(_rows.Length, each.Total);
                Assert.Equal(each.Total, each.Ready + each.Leased + each.Done);
                for (int i = 0; i < _rows.Length; i++)
                {
                    Assert.True(each.StateOf(i) != ShardState.Done || _rows[i].State == ShardState.Done);
                }
            }

            Assert.All(_rows, r => Assert.InRange(r.Commits, 0, 1));
        }

        public bool RunToTheEnd()
        {
            for (int i = 0; i < 10 * (_rows.Length + 1); i++)
            {
                _time.Advance(Lease + Lease);
                Load(0);
                Take(0, _rows.Length);
                while (_held.Count > 0)
                {
                    Commit(_held.Count - 1);
                }
            }

            Load(0);
            return _ledgers[0].Done == _rows.Length && _rows.All(r => r.State == ShardState.Done && r.Commits == 1);
        }

        private long Now => _time.GetTimestamp();

        private long Later => Now + (long)(Lease.TotalSeconds * _time.TimestampFrequency);

        private void Load(int ledger) => _ledgers[ledger].Load(
            [.. _rows.Select((r, i) => Row(i, i % 3, r.State, r.Epoch))], TimeSpan.FromSeconds(10));

        private void Take(int ledger, int count)
        {
            _ledgers[ledger].Expire();
            IReadOnlyList<int> asked = _ledgers[ledger].Choose(count);
            Assert.Equal(asked.Count, asked.Distinct().Count());
            List<ShardLease> granted = [];
            foreach (int shard in asked)
            {
                ref (ShardState State, int Epoch, long Until, int Commits) row = ref _rows[shard];
                if (row.State == ShardState.Ready || (row.State == ShardState.Leased && row.Until <= Now))
                {
                    row = (ShardState.Leased, row.Epoch + 1, Later, row.Commits);
                    granted.Add(LeaseOf(shard, row.Epoch));
                    _held.Add((ledger, granted[^1]));
                }
            }

            _ledgers[ledger].Granted(asked, granted, ledger, Lease);
        }

        private void Commit(int index)
        {
            (int ledger, ShardLease lease) = _held[index];
            _held.RemoveAt(index);
            ref (ShardState State, int Epoch, long Until, int Commits) row = ref _rows[lease.Shard];
            if (row.State == ShardState.Leased && row.Epoch == lease.Epoch)
            {
                row = (ShardState.Done, row.Epoch, 0, row.Commits + 1);
                _ledgers[ledger].Complete(lease);
            }
        }

        private void Release(int index)
        {
            (int ledger, ShardLease lease) = _held[index];
            _held.RemoveAt(index);
            ref (ShardState State, int Epoch, long Until, int Commits) row = ref _rows[lease.Shard];
            if (row.State == ShardState.Leased && row.Epoch == lease.Epoch)
            {
                row.State = ShardState.Ready;
                _ledgers[ledger].Release(lease);
            }
        }

        private void Renew(int index)
        {
            (int ledger, ShardLease lease) = _held[index];
            ref (ShardState State, int Epoch, long Until, int Commits) row = ref _rows[lease.Shard];
            if (row.State == ShardState.Leased && row.Epoch == lease.Epoch)
            {
                row.Until = Later;
                _ledgers[ledger].Renew(lease, Lease);
            }
        }
    }
}
