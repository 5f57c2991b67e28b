using System.Diagnostics;
using Experiments.Grains.Running;
using Experiments.Results.Store;

namespace Experiments.Grains.Worker;

/// <summary>How far a sweep is: what the store counted a moment ago, what was committed here since, what lanes have computed.</summary>
internal sealed class ProgressCount(long trials)
{
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(5);

    private readonly Lock _gate = new();
    private readonly Queue<(long At, long Ended)> _history = new();
    private Counts _stored;
    private Counts _since;
    private Counts _shown;
    // More when the sweep is extended.
    private long _total = trials;
    private long _committedTrials;
    private long _referenceHits;
    private long _most;

    /// <summary>Trials committed here so far.</summary>
    public long CommittedTrials => Volatile.Read(ref _committedTrials);

    /// <param name="committedBefore">What <see cref="CommittedTrials"/> was before the store was asked.</param>
    public void Note(SweepProgress progress, long committedBefore = -1)
    {
        lock (_gate)
        {
            _total = progress.Trials;

            // A commit that fell between the question and the answer may or may not be in it; then the last figures stand
            // until the next answer, so that nothing is ever counted twice.
            if (committedBefore < 0 || committedBefore == _committedTrials)
            {
                _stored = new Counts(progress.Done, progress.Failed, progress.Skipped);
                _since = default;
            }
        }
    }

    public void Committed(ShardRun run)
    {
        lock (_gate)
        {
            _since += new Counts(run.Done, run.Failed, run.Skipped);
            _committedTrials += run.Done + run.Failed + run.Skipped;
            _referenceHits += run.ReferenceHits;
            run.Counted = true;
        }
    }

    public RunSnapshot Snapshot(
        IEnumerable<ShardRun> running, ComputePool pool, TimeSpan elapsed, long leasesLost, long spansDropped)
    {
        lock (_gate)
        {
            Counts counts = _stored + _since;
            long hits = _referenceHits;
            foreach (ShardRun run in running)
            {
                if (!run.Counted)
                {
                    counts += new Counts(run.Done, run.Failed, run.Skipped);
                    hits += run.ReferenceHits;
                }
            }

            // A shard that was computed and then given back or lost would make the figures step back, and one that another process
            // has committed meanwhile would be counted twice; they wait instead.
            _shown = counts.Ended >= _shown.Ended && counts.Ended <= _total ? counts : _shown;
            _most = Math.Max(_most, hits);
            double rate = Rate(_shown.Ended);
            long left = _total - _shown.Ended;
            return new RunSnapshot(
                _total, _shown.Done, _shown.Failed, _shown.Skipped, _most, rate, elapsed,
                left <= 0 ? TimeSpan.Zero : rate > 0 ? TimeSpan.FromSeconds(Math.Min(left / rate, 1e9)) : null,
                [.. pool.Lanes.Select(l => l.Snapshot())], leasesLost, spansDropped);
        }
    }

    private double Rate(long ended)
    {
        long now = Stopwatch.GetTimestamp();
        _history.Enqueue((now, ended));
        while (_history.Count > 2 && Stopwatch.GetElapsedTime(_history.Peek().At, now) > Window)
        {
            _history.Dequeue();
        }

        (long at, long before) = _history.Peek();
        double seconds = Stopwatch.GetElapsedTime(at, now).TotalSeconds;
        return seconds > 0 ? (ended - before) / seconds : 0;
    }

    private readonly record struct Counts(long Done, long Failed, long Skipped)
    {
        public long Ended => Done + Failed + Skipped;

        public static Counts operator +(Counts a, Counts b) =>
            new(a.Done + b.Done, a.Failed + b.Failed, a.Skipped + b.Skipped);
    }
}
