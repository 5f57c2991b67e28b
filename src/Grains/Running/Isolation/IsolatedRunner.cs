using System.Diagnostics;
using Experiments.Results.Outcomes;

namespace Experiments.Grains.Running;

/// <summary>Computes shards in processes of their own, for those of which two silos have died: what dies now is no silo.</summary>
/// <remarks>The computation is a <see cref="ShardRunner"/>'s, in the other process; what this adds is in <see cref="IsolatedShard"/>. A process
/// serves one shard after another, so that a sweep whose every shard is isolated starts few. Safe for several lanes at once.</remarks>
public sealed class IsolatedRunner(IsolationOptions options, MemoryBudget memory, IFileLibrary files, TimeProvider time) : IShardRunner, IDisposable
{
    /// <summary>One death may be an operator's, or the machine's.</summary>
    public const int AfterDeaths = 2;

    // Three processes in a row that end before they have begun anything tell of this machine, not of a trial.
    private const int MostFalseStarts = 3;

    private readonly Lock _gate = new();
    private readonly List<(IsolatedProcess Process, long Since)> _idle = [];
    private bool _closed;

    public static bool Wants(ShardLease lease)
    {
        ArgumentNullException.ThrowIfNull(lease);
        return lease.Deaths >= AfterDeaths || lease.SweepIsolated;
    }

    /// <inheritdoc cref="ShardRunner.Run"/>
    public ShardResult Run(ShardRun run, Lane lane)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(lane);
        long start = Stopwatch.GetTimestamp();
        IsolatedShard shard = new(run, lane, options, memory, files, time);
        int falseStarts = 0;
        while (!shard.IsOver)
        {
            run.Cancellation.ThrowIfCancellationRequested();

            // What is alone is alone in its process too, of which no earlier kernel's thread may be left.
            bool alone = shard.TryNextAlone();
            IsolatedProcess process = alone ? IsolatedProcess.Start(options) : Rent();
            bool fit = false;
            try
            {
                fit = shard.Work(process);
            }
            finally
            {
                if (fit && !alone)
                {
                    GiveBack(process);
                }
                else
                {
                    process.Dispose();
                }
            }

            falseStarts = shard.HadBegun ? 0 : falseStarts + 1;
            if (falseStarts >= MostFalseStarts)
            {
                throw new InvalidOperationException(
                    $"Shard {run.Lease.Shard} of sweep {run.Lease.SweepId} is to be computed in a process of its own, and {falseStarts} in a row ended "
                    + $"before they had begun it. The last one: {shard.LastEnding}.");
            }
        }

        ShardResult result = shard.Result();
        ShardRunner.Measured(run, Stopwatch.GetElapsedTime(start));
        return result;
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _closed = true;
            _idle.ForEach(i => i.Process.Dispose());
            _idle.Clear();
        }
    }

    private IsolatedProcess Rent()
    {
        lock (_gate)
        {
            if (_idle.Count > 0)
            {
                IsolatedProcess last = _idle[^1].Process;
                _idle.RemoveAt(_idle.Count - 1);
                last.ForgetWords();
                return last;
            }
        }

        return IsolatedProcess.Start(options);
    }

    private void GiveBack(IsolatedProcess process)
    {
        lock (_gate)
        {
            if (!_closed)
            {
                _idle.Add((process, time.GetTimestamp()));
                _ = EndIdleAsync();
                return;
            }
        }

        process.Dispose();
    }

    private async Task EndIdleAsync()
    {
        await Task.Delay(options.KeepIdle, time);
        lock (_gate)
        {
            // Ticks of a timer and of the clock may differ by one, so that the last of all would be left.
            TimeSpan old = options.KeepIdle - TimeSpan.FromMilliseconds(100);
            foreach ((IsolatedProcess process, _) in _idle.Where(i => time.GetElapsedTime(i.Since) >= old))
            {
                process.Dispose();
            }

            _idle.RemoveAll(i => time.GetElapsedTime(i.Since) >= old);
        }
    }
}
