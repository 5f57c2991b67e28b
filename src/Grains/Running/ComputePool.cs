using System.Diagnostics;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>A silo's own compute threads ("lanes"), on which every kernel runs.</summary>
/// <remarks>
/// Dedicated threads, because a kernel on the thread pool delays membership probes, store calls and every other grain by up to
/// a second, and in a grain's turn by more (917 ms and 1770 ms measured, against 22 ms with own threads). Shards start in the
/// order they were queued. An exclusive one waits until the lanes are empty and keeps them so until it ends: a timed shard
/// has its host to itself.
/// </remarks>
public sealed class ComputePool : IDisposable
{
    // A plain monitor: its threads are the lanes' own, and a wait wakes exactly when something may have changed.
    private readonly object _gate = new();
    private readonly Queue<Work> _queue = new();
    private readonly Lane[] _lanes;
    private int _running;
    private bool _exclusiveRunning;
    private bool _closed;

    /// <param name="lanes">How many threads; see <see cref="DefaultLanes"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than one lane.</exception>
    public ComputePool(int lanes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(lanes, 1);
        _lanes = new Lane[lanes];
        for (int i = 0; i < lanes; i++)
        {
            Lane lane = _lanes[i] = new Lane(i, lanes);
            new Thread(() => Loop(lane)) { IsBackground = true, Name = $"compute-{i}" }.Start();
        }
    }

    /// <summary>One core is left to membership probes, the store's client and the store itself.</summary>
    public static int DefaultLanes => Math.Max(1, Environment.ProcessorCount - 1);

    public IReadOnlyList<Lane> Lanes => _lanes;

    /// <summary>Queues work for the next free lane and returns at once.</summary>
    /// <param name="exclusive">Whether nothing else may run beside it.</param>
    /// <param name="work">Must not throw: what goes wrong inside is the work's own to report.</param>
    /// <exception cref="ObjectDisposedException">The pool is closed.</exception>
    public void Enqueue(bool exclusive, Action<Lane> work)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closed, this);
            _queue.Enqueue(new Work(exclusive, work));
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Lets no more work in. Lanes end when what is queued has run; cancelling it is its owner's business.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _closed = true;
            Monitor.PulseAll(_gate);
        }
    }

    private void Loop(Lane lane)
    {
        while (Take() is Work work)
        {
            try
            {
                work.Run(lane);
            }
            finally
            {
                lane.Idle();
                Ended(work);
            }
        }
    }

    private Work? Take()
    {
        lock (_gate)
        {
            while (true)
            {
                if (_queue.TryPeek(out Work? work) && !_exclusiveRunning && (!work.Exclusive || _running == 0))
                {
                    _queue.Dequeue();
                    _running++;
                    _exclusiveRunning = work.Exclusive;
                    return work;
                }

                if (_closed && _queue.Count == 0)
                {
                    return null;
                }

                Monitor.Wait(_gate);
            }
        }
    }

    private void Ended(Work work)
    {
        lock (_gate)
        {
            _running--;
            _exclusiveRunning &= !work.Exclusive;

            // Whoever waited for the lanes to be empty, or for an exclusive shard to end, looks again.
            Monitor.PulseAll(_gate);
        }
    }

    private sealed record Work(bool Exclusive, Action<Lane> Run);
}

/// <summary>One compute thread and what it is doing, for a live view.</summary>
public sealed class Lane
{
    private long _since;
    private volatile InstanceSpec? _instance;
    private volatile TrialSpec? _trial;
    private volatile string? _activity;

    private readonly int _lanes;

    internal Lane(int index, int lanes) => (Index, _lanes) = (index, lanes);

    public int Index { get; }

    /// <summary>How many lanes its silo has.</summary>
    internal int Count => _lanes;

    /// <summary>The lane's part of the cores that threads can be pinned to, as its first and their number: all where it has the
    /// machine to itself.</summary>
    internal (int First, int Count) CoresOf(bool sharing, int cores)
    {
        int first = sharing ? (int)((long)Index * cores / _lanes) : 0;
        return (first, (sharing ? (int)((Index + 1L) * cores / _lanes) : cores) - first);
    }

    /// <summary>Buffers that the lane uses again from shard to shard.</summary>
    internal LaneScratch Scratch { get; } = new();

    public LaneSnapshot Snapshot()
    {
        InstanceSpec? instance = _instance;
        TrialSpec? trial = _trial;
        string? activity = _activity;
        return new LaneSnapshot(
            Index,
            instance is null ? null : Describe.Instance(instance),
            instance is null ? null : trial?.ToString() ?? activity,
            instance is null ? TimeSpan.Zero : Stopwatch.GetElapsedTime(Volatile.Read(ref _since)));
    }

    internal void Begin(InstanceSpec instance, string activity)
    {
        _trial = null;
        _activity = activity;
        _instance = instance;
        Volatile.Write(ref _since, Stopwatch.GetTimestamp());
    }

    internal void Begin(TrialSpec trial)
    {
        _trial = trial;
        Volatile.Write(ref _since, Stopwatch.GetTimestamp());
    }

    internal void Idle()
    {
        _instance = null;
        _trial = null;
        _activity = null;
    }
}
