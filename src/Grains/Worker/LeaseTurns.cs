namespace Experiments.Grains.Worker;

/// <summary>Whose turn it is to lease, among the sweeps that one silo attends.</summary>
/// <remarks>
/// Each sweep has a share, which counts the lane-seconds that the sweep has had here. Of the sweeps that may have work, those of the highest
/// priority come first, and among them the one that has had least. What waits for a lane counts by its prediction until it has run. A sweep that
/// comes later begins where the least of the others stands: it neither catches up on time before it nor waits for others to.
/// While others wait beneath them, those of the highest priority owe these together one lane-second in twenty, so that none starves; of those
/// beneath, whatever their priorities, the one that has been spared least is next. While these sleep nothing is owed to them.
/// No clock but the one given, no Orleans, no store: the simulation in the tests runs this very code.
/// </remarks>
/// <param name="lanes">The silo's compute threads; one lease more is taken, so that a lane that ends goes on at once.</param>
public sealed class LeaseTurns(int lanes, TimeProvider time)
{
    // Of twenty lane-seconds, for nineteen that the highest have had.
    private const double OwedASecond = 1 / 19.0;

    private readonly Lock _gate = new();
    private readonly List<Share> _shares = [];
    private long _joined;

    // Lane-seconds that the highest owe to those beneath; negative where these had a shard that was longer than what was owed.
    private double _owed;

    /// <summary>A share for a sweep, until <see cref="Leave"/>.</summary>
    /// <param name="priority">Larger goes first.</param>
    /// <param name="most">How many of the sweep's shards may run here at once: one where a timed shard has the host to itself.</param>
    /// <param name="wake">Called, outside of any lock, when the sweep has been told that there is no room and there may be some now.</param>
    public Share Join(int priority, int most, Action wake)
    {
        lock (_gate)
        {
            Share share = new(Math.Clamp(most, 1, lanes), wake, _joined++)
            {
                Priority = priority,
                Had = LeastHad(priority) ?? 0,
                Spared = _shares.Select(s => s.Spared).DefaultIfEmpty(0).Min(),
            };
            _shares.Add(share);
            return share;
        }
    }

    public void Leave(Share share)
    {
        lock (_gate)
        {
            _shares.Remove(share);
            Lapse();
        }

        WakeWaiting();
    }

    /// <summary>Another priority for a sweep, which keeps what it has leased. Among its new equals it is one that comes later.</summary>
    public void SetPriority(Share share, int priority)
    {
        ArgumentNullException.ThrowIfNull(share);
        lock (_gate)
        {
            if (share.Priority == priority)
            {
                return;
            }

            share.Had = LeastHad(priority) ?? share.Had;
            share.Priority = priority;
            Lapse();
        }

        WakeWaiting();
    }

    /// <summary>How many leases the sweep may ask for now.</summary>
    public int Room(Share share)
    {
        ArgumentNullException.ThrowIfNull(share);
        lock (_gate)
        {
            int room = RoomOf(share);
            long now = time.GetTimestamp();
            List<Share> awake = _shares.FindAll(s => s == share || s.AsleepUntil <= now);

            // One whose own bound is reached counts too: its next shard is to begin before those of others fill the queue.
            int highest = awake.Max(s => s.Priority);
            bool isBeneath = share.Priority < highest;
            List<Share> spared = _owed > 0 ? awake.FindAll(s => s.Priority < highest && MayBeSpared(s) && (s == share || !s.IsAsking)) : [];
            List<Share> rivals = isBeneath ? spared : awake.FindAll(s => s.Priority == highest && RoomOf(s) > 0);
            if (room <= 0 || (isBeneath ? !spared.Contains(share) : spared.Count > 0)
                || rivals.Exists(r => (Counted(r), r.Number).CompareTo((Counted(share), share.Number)) < 0))
            {
                share.IsWaiting = true;
                share.IsAsking = false;
                return 0;
            }

            share.IsAsking = true;
            share.Owes = isBeneath ? -1 : awake.Exists(s => s.Priority < highest) ? OwedASecond : 0;

            // One at a time where others wait, or the first to come would fill the queue.
            return isBeneath || rivals.Count > 1 ? 1 : room;

            double Counted(Share one) => isBeneath ? one.Spared : one.Had;
        }
    }

    /// <summary>Whether no other sweep here may have work: the lanes are then this one's to waste.</summary>
    public bool IsAlone(Share share)
    {
        ArgumentNullException.ThrowIfNull(share);
        lock (_gate)
        {
            long now = time.GetTimestamp();
            return _shares.TrueForAll(s => s == share || s.AsleepUntil > now);
        }
    }

    /// <summary>A lease was granted, of those that <see cref="Room"/> allowed.</summary>
    /// <param name="predictedSeconds">What the shard is expected to take; 0 where nothing is known of the sweep's shards yet.</param>
    public Turn Took(Share share, double predictedSeconds)
    {
        ArgumentNullException.ThrowIfNull(share);
        Turn turn;
        lock (_gate)
        {
            turn = new(share, predictedSeconds, share.Owes);
            share.IsAsking = false;
            share.Waiting++;
            share.Unpredicted += turn.IsUnpredicted ? 1 : 0;
            Count(turn, predictedSeconds);
        }

        // Whoever gave way to it may be the next.
        WakeWaiting();
        return turn;
    }

    /// <summary>A granted shard has left its lane, or never came to one.</summary>
    /// <param name="seconds">Lane-seconds that it had: all lanes' where it had the host to itself.</param>
    public void Ended(Turn turn, double seconds)
    {
        ArgumentNullException.ThrowIfNull(turn);
        lock (_gate)
        {
            turn.Share.Waiting--;
            turn.Share.Unpredicted -= turn.IsUnpredicted ? 1 : 0;
            Count(turn, seconds - turn.PredictedSeconds);
        }

        WakeWaiting();
    }

    /// <summary>The store had nothing for the sweep: the others need not wait for it until then.</summary>
    public void Sleep(Share share, TimeSpan until)
    {
        ArgumentNullException.ThrowIfNull(share);
        lock (_gate)
        {
            share.IsAsking = false;
            share.AsleepUntil = time.GetTimestamp() + (long)(until.TotalSeconds * time.TimestampFrequency);
        }

        WakeWaiting();
    }

    private void WakeWaiting()
    {
        List<Share> woken;
        lock (_gate)
        {
            woken = _shares.FindAll(s => s.IsWaiting);
            woken.ForEach(s => s.IsWaiting = false);
        }

        woken.ForEach(s => s.Wake());
    }

    private void Count(Turn turn, double seconds)
    {
        turn.Share.Had += seconds;
        turn.Share.Spared += turn.Owes < 0 ? seconds : 0;
        _owed += turn.Owes * seconds;
        Lapse();
    }

    /// <summary>Among equals nobody owes anything, nor shall whoever joins them begin with a debt.</summary>
    private void Lapse()
    {
        if (_shares.TrueForAll(s => s.Priority == _shares[0].Priority))
        {
            _owed = 0;
        }
    }

    private double? LeastHad(int priority) => _shares.Where(s => s.Priority == priority).Min(s => (double?)s.Had);

    private int RoomOf(Share share) => Math.Min(lanes + 1 - _shares.Sum(s => s.Waiting), share.Most + 1 - share.Waiting);

    /// <summary>One at a time until it is known what its shards cost: a queue full of them might be more than it is owed in a day.</summary>
    private bool MayBeSpared(Share share) => RoomOf(share) > 0 && share.Unpredicted == 0;

    /// <summary>What one sweep has had of this silo.</summary>
    public sealed class Share
    {
        internal Share(int most, Action wake, long number) => (Most, Wake, Number) = (most, wake, number);

        public int Priority { get; internal set; }

        /// <summary>Lane-seconds, those of waiting shards as predicted.</summary>
        public double Had { get; internal set; }

        /// <summary>Those among them that it had while others of a higher priority had work.</summary>
        internal double Spared { get; set; }

        internal int Most { get; }

        internal Action Wake { get; }

        internal long Number { get; }

        internal bool IsWaiting { get; set; }

        /// <summary>It has been given room and not said yet what came of it. One that is to be spared holds nobody up meanwhile, however long it takes.</summary>
        internal bool IsAsking { get; set; }

        /// <summary>Granted shards that have not left their lane.</summary>
        internal int Waiting { get; set; }

        /// <summary>Those among them of which it is not known what they cost.</summary>
        internal int Unpredicted { get; set; }

        /// <summary>What a second of the leases that it was last given room for adds to what is owed.</summary>
        internal double Owes { get; set; }

        internal long AsleepUntil { get; set; }
    }

    /// <summary>A granted shard's turn, as it was counted.</summary>
    public sealed class Turn
    {
        internal Turn(Share share, double predictedSeconds, double owes) => (Share, PredictedSeconds, Owes) = (share, predictedSeconds, owes);

        internal Share Share { get; }

        internal double PredictedSeconds { get; }

        internal double Owes { get; }

        internal bool IsUnpredicted => PredictedSeconds <= 0;
    }
}
