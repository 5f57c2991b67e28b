namespace Experiments.Grains.Worker;

/// <summary>Whose turn it is to lease, among the sweeps that one silo attends.</summary>
/// <remarks>
/// Each sweep has a share, which counts the lane-seconds that the sweep has had here. Of the sweeps that may have work, those of the highest
/// priority come first, and among them the one that has had least. What waits for a lane counts by its prediction until it has run. A sweep that
/// comes later begins where the least of the others stands: it neither catches up on time before it nor waits for others to.
/// No clock but the one given, no Orleans, no store: the simulation in the tests runs this very code.
/// </remarks>
/// <param name="lanes">The silo's compute threads; one lease more is taken, so that a lane that ends goes on at once.</param>
public sealed class LeaseTurns(int lanes, TimeProvider time)
{
    private readonly Lock _gate = new();
    private readonly List<Share> _shares = [];
    private long _joined;

    /// <summary>A share for a sweep, until <see cref="Leave"/>.</summary>
    /// <param name="priority">Larger goes first.</param>
    /// <param name="most">How many of the sweep's shards may run here at once: one where a timed shard has the host to itself.</param>
    /// <param name="wake">Called, outside of any lock, when the sweep has been told that there is no room and there may be some now.</param>
    public Share Join(int priority, int most, Action wake)
    {
        lock (_gate)
        {
            Share share = new(priority, Math.Clamp(most, 1, lanes), wake, _joined++)
            {
                Had = _shares.Where(s => s.Priority == priority).Select(s => s.Had).DefaultIfEmpty(0).Min(),
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
            if (room <= 0)
            {
                share.IsWaiting = true;
                return 0;
            }

            bool shared = false;
            long now = time.GetTimestamp();
            foreach (Share rival in _shares)
            {
                if (rival == share || rival.Priority < share.Priority || rival.AsleepUntil > now || RoomOf(rival) <= 0)
                {
                    continue;
                }

                if (rival.Priority > share.Priority || (rival.Had, rival.Number).CompareTo((share.Had, share.Number)) < 0)
                {
                    share.IsWaiting = true;
                    return 0;
                }

                shared = true;
            }

            // One at a time where others wait, or the first to come would fill the queue.
            return shared ? 1 : room;
        }
    }

    /// <summary>A lease was granted.</summary>
    /// <param name="predictedSeconds">What the shard is expected to take.</param>
    public void Took(Share share, double predictedSeconds)
    {
        ArgumentNullException.ThrowIfNull(share);
        lock (_gate)
        {
            share.Waiting++;
            share.Had += predictedSeconds;
        }
    }

    /// <summary>A granted shard has left its lane, or never came to one.</summary>
    /// <param name="seconds">Lane-seconds that it had: all lanes' where it had the host to itself.</param>
    public void Ended(Share share, double predictedSeconds, double seconds)
    {
        ArgumentNullException.ThrowIfNull(share);
        lock (_gate)
        {
            share.Waiting--;
            share.Had += seconds - predictedSeconds;
        }

        WakeWaiting();
    }

    /// <summary>The store had nothing for the sweep: the others need not wait for it until then.</summary>
    public void Sleep(Share share, TimeSpan until)
    {
        ArgumentNullException.ThrowIfNull(share);
        lock (_gate)
        {
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

    private int RoomOf(Share share) => Math.Min(lanes + 1 - _shares.Sum(s => s.Waiting), share.Most + 1 - share.Waiting);

    /// <summary>What one sweep has had of this silo.</summary>
    public sealed class Share
    {
        internal Share(int priority, int most, Action wake, long number) => (Priority, Most, Wake, Number) = (priority, most, wake, number);

        public int Priority { get; }

        /// <summary>Lane-seconds, those of waiting shards as predicted.</summary>
        public double Had { get; internal set; }

        internal int Most { get; }

        internal Action Wake { get; }

        internal long Number { get; }

        internal bool IsWaiting { get; set; }

        /// <summary>Granted shards that have not left their lane.</summary>
        internal int Waiting { get; set; }

        internal long AsleepUntil { get; set; }
    }
}
