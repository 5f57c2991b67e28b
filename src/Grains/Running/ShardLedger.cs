using Experiments.Results.Outcomes;
using Experiments.Results.Store;

namespace Experiments.Grains.Running;

/// <summary>Which shards of one sweep are ready, leased or done, as far as this process knows.</summary>
/// <remarks>
/// A cache of the store's shard rows and nothing more: it chooses what to ask the store for, and the store decides. Whatever
/// is wrong here costs a refused request and a reload, never a trial. Not safe for concurrent use; a grain's turn guards it.
/// </remarks>
public sealed class ShardLedger(TimeProvider time)
{
    private readonly PriorityQueue<int, (double Cost, int Shard)> _ready = new();
    private Entry[] _shards = [];

    public int Total => _shards.Length;

    public int Ready { get; private set; }

    public int Leased { get; private set; }

    public int Done { get; private set; }

    /// <summary>Whether the store has refused something that stood here as ready, so that the rows must be loaded again.</summary>
    public bool Stale { get; private set; } = true;

    /// <summary>Takes the store's word for every shard.</summary>
    /// <param name="adopt">A lease that was granted before this load has no deadline here; it is asked for again after
    /// this long, unless renewed.</param>
    /// <exception cref="ArgumentException">The rows are not numbered 0, 1, 2, … once each.</exception>
    public void Load(IReadOnlyList<ShardRow> rows, TimeSpan adopt)
    {
        ArgumentNullException.ThrowIfNull(rows);
        Entry[] shards = new Entry[rows.Count];
        foreach (ShardRow row in rows)
        {
            if (row.Number < 0 || row.Number >= shards.Length || shards[row.Number] is not null)
            {
                throw new ArgumentException(
                    $"Shard {row.Number} of {rows.Count} is out of range or twice there. Shards are numbered from 0, once each.");
            }

            // A holder whose liveness lock is gone is dead: the store grants its shards to whoever asks.
            bool held = row.State == ShardState.Leased && row.HolderAlive;
            Entry? known = row.Number < _shards.Length ? _shards[row.Number] : null;
            bool same = held && known is { State: ShardState.Leased } && known.Epoch == row.Epoch;
            shards[row.Number] = new Entry
            {
                Cost = row.PredictedSeconds,
                Epoch = row.Epoch,
                Owner = row.NodeId,
                FreeBytes = row.NeedsFreeBytes ?? 0,
                Cores = row.NeedsCores ?? 0,
                State = row.State == ShardState.Done ? ShardState.Done : held ? ShardState.Leased : ShardState.Ready,
                Orphaned = row.State == ShardState.Leased && !held,
                Deadline = same ? known!.Deadline : time.GetTimestamp() + Ticks(adopt),
            };
        }

        _shards = shards;
        _ready.Clear();
        Ready = Leased = Done = 0;
        for (int i = 0; i < shards.Length; i++)
        {
            Count(shards[i].State, 1);
            if (shards[i].State == ShardState.Ready)
            {
                Queue(i);
            }
        }

        Stale = false;
    }

    public ShardState StateOf(int shard) => _shards[shard].State;

    public int EpochOf(int shard) => _shards[shard].Epoch;

    public int? OwnerOf(int shard) => _shards[shard].Owner;

    /// <summary>Up to <paramref name="count"/> ready shards to ask the store for, longest predicted first, so that no long
    /// one is left alone at the end. Tell <see cref="Granted"/> what the store said.</summary>
    /// <param name="freeBytes">What the asking silo had free: a shard that needs more is chosen only when nothing else is left, since the store
    /// grants it only where no silo is known that has so much.</param>
    /// <param name="cores">That it can pin threads to, likewise.</param>
    public IReadOnlyList<int> Choose(int count, double freeBytes = double.PositiveInfinity, int cores = int.MaxValue)
    {
        List<int> chosen = new(Math.Max(0, Math.Min(count, Ready)));
        List<int> larger = [];
        HashSet<int> seen = [];
        while (chosen.Count < count && _ready.TryDequeue(out int shard, out _))
        {
            // A shard may have left the ready state since it was queued; it then stands in the queue as a leftover.
            if (_shards[shard].State == ShardState.Ready && seen.Add(shard))
            {
                (_shards[shard].FreeBytes <= freeBytes && _shards[shard].Cores <= cores ? chosen : larger).Add(shard);
            }
        }

        int more = Math.Min(count - chosen.Count, larger.Count);
        chosen.AddRange(larger.Take(more));
        Refused([.. larger.Skip(more)]);
        return chosen;
    }

    /// <summary>Notes the store's answer to a request for <paramref name="asked"/>. A refused one means that the rows have
    /// changed under us: it counts as leased by someone until the next load.</summary>
    public void Granted(IReadOnlyList<int> asked, IReadOnlyList<ShardLease> leases, int owner, TimeSpan duration)
    {
        foreach (ShardLease lease in leases)
        {
            Entry entry = _shards[lease.Shard];
            entry.Epoch = lease.Epoch;
            entry.Owner = owner;
            entry.Orphaned = false;
            entry.Deadline = time.GetTimestamp() + Ticks(duration);
            Move(entry, ShardState.Leased);
        }

        foreach (int shard in asked)
        {
            if (_shards[shard].State == ShardState.Ready)
            {
                _shards[shard].Owner = null;
                _shards[shard].Deadline = time.GetTimestamp();
                Move(_shards[shard], ShardState.Leased);
                Stale = true;
            }
        }
    }

    /// <summary>Puts back what was chosen when the store could not be asked.</summary>
    public void Refused(IReadOnlyList<int> asked)
    {
        foreach (int shard in asked)
        {
            if (_shards[shard].State == ShardState.Ready)
            {
                Queue(shard);
            }
        }
    }

    /// <summary>False when another lease has replaced this one.</summary>
    public bool Renew(ShardLease lease, TimeSpan duration)
    {
        if (!Holds(lease))
        {
            return false;
        }

        _shards[lease.Shard].Deadline = time.GetTimestamp() + Ticks(duration);
        return true;
    }

    /// <summary>The holder gave it back unrun. A lease that is no longer the shard's changes nothing.</summary>
    public bool Release(ShardLease lease) => Holds(lease) && MakeReady(lease.Shard);

    /// <summary>The holder has committed it. Saying so twice changes nothing.</summary>
    public bool Complete(ShardLease lease)
    {
        ArgumentNullException.ThrowIfNull(lease);
        if (lease.Shard >= _shards.Length || _shards[lease.Shard].State == ShardState.Done
            || _shards[lease.Shard].Epoch > lease.Epoch)
        {
            return false;
        }

        _shards[lease.Shard].Epoch = lease.Epoch;
        Move(_shards[lease.Shard], ShardState.Done);
        return true;
    }

    /// <summary>Makes leases that are past their deadline ready again, to be asked for; the store still has the last word.
    /// Returns how many.</summary>
    public int Expire()
    {
        long now = time.GetTimestamp();
        int expired = 0;
        for (int i = 0; i < _shards.Length; i++)
        {
            if (_shards[i].State == ShardState.Leased && _shards[i].Deadline <= now && MakeReady(i))
            {
                expired++;
            }
        }

        return expired;
    }

    /// <summary>Whether somebody else than this node holds a lease, as far as is known.</summary>
    public bool LeasedToOthers(int node)
    {
        foreach (Entry shard in _shards)
        {
            if (shard.State == ShardState.Leased && shard.Owner != node)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>These are leased to the dead, says the store. They come before all others: they have been waited for already, and the longest
    /// of them may be what the sweep ends with.</summary>
    public void Orphaned(IReadOnlyList<int> shards)
    {
        ArgumentNullException.ThrowIfNull(shards);
        foreach (int shard in shards)
        {
            if (shard < _shards.Length && _shards[shard].State == ShardState.Leased)
            {
                _shards[shard].Orphaned = true;
                MakeReady(shard);
            }
        }
    }

    private bool Holds(ShardLease lease) =>
        lease.Shard < _shards.Length && _shards[lease.Shard].State == ShardState.Leased
        && _shards[lease.Shard].Epoch == lease.Epoch;

    private bool MakeReady(int shard)
    {
        Move(_shards[shard], ShardState.Ready);
        _shards[shard].Owner = null;
        Queue(shard);
        return true;
    }

    private void Queue(int shard) => _ready.Enqueue(shard, (_shards[shard].Orphaned ? double.NegativeInfinity : -_shards[shard].Cost, shard));

    private void Move(Entry entry, ShardState to)
    {
        Count(entry.State, -1);
        entry.State = to;
        Count(to, 1);
    }

    private void Count(ShardState state, int by)
    {
        switch (state)
        {
            case ShardState.Ready:
                Ready += by;
                break;
            case ShardState.Leased:
                Leased += by;
                break;
            default:
                Done += by;
                break;
        }
    }

    private long Ticks(TimeSpan span) => (long)(span.TotalSeconds * time.TimestampFrequency);

    private sealed class Entry
    {
        public double Cost { get; init; }

        /// <summary>What a silo needs for it, as far as is known.</summary>
        public double FreeBytes { get; init; }

        public int Cores { get; init; }

        public ShardState State { get; set; }

        public int Epoch { get; set; }

        public int? Owner { get; set; }

        public bool Orphaned { get; set; }

        public long Deadline { get; set; }
    }
}
