using System.Collections.Concurrent;
using System.Security.Cryptography;
using Experiments.Results.Store;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Experiments.Grains.Worker;

/// <summary>Attends every running sweep of the store: what a cluster's silo does all day.</summary>
/// <remarks>
/// Postgres is asked which sweeps run, at the start, when it says that one's state has changed, and every
/// <see cref="SweepWorkerOptions.LookEvery"/>; and each is worked at by a session of its
/// own, in turns (<see cref="LeaseTurns"/>). So whatever silo is alive takes up whatever is unfinished, and after a whole cluster's death
/// nobody has to be told anything. Nothing is owned here: two silos that attend one sweep lease different shards of it.
/// A sweep that this silo lacks a plug-in for is left to others. One whose session ends by a fault is tried again, each time later, up to a minute;
/// so is the store, when it is away.
/// </remarks>
public sealed partial class SweepAttendant(
    SweepWorker worker, StoreHandle stores, SweepWorkerOptions options, TimeProvider time, ILogger<SweepAttendant> log) : BackgroundService
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromMinutes(1);

    private readonly ConcurrentDictionary<long, Attended> _attended = new();
    private readonly SemaphoreSlim _told = new(0);
    private long _askedAt;

    /// <summary>Since the store last said which sweeps run; null before the first time.</summary>
    public TimeSpan? SinceAsked => Volatile.Read(ref _askedAt) is long at and not 0 ? time.GetElapsedTime(at) : null;

    /// <summary>The sweeps that are worked at.</summary>
    public IReadOnlyCollection<long> Sweeps => [.. _attended.Where(a => !a.Value.Running.IsCompleted).Select(a => a.Key)];

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        TimeSpan pause = options.LookEvery;
        worker.SweepsChanged += LookNow;
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                ResultStore store = await stores.GetAsync(stoppingToken);
                Attend(await store.RunningSweepsAsync(stoppingToken), stoppingToken);
                Volatile.Write(ref _askedAt, time.GetTimestamp());
                pause = options.LookEvery;
            }
            catch (StoreUnavailableException fault)
            {
                pause = Longer(pause);
                StoreIsAway(log, fault.Message, pause.TotalSeconds);
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                break;
            }

            await ((Task)_told.WaitAsync(pause, stoppingToken)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        worker.SweepsChanged -= LookNow;

        // The worker, which stops after this, gives back what they hold.
        await Task.WhenAll(_attended.Values.Select(a => a.Running));
    }

    private void LookNow() => _told.Wake();

    private void Attend(IReadOnlyList<long> running, CancellationToken stopping)
    {
        foreach (long sweep in running)
        {
            Attended attended = _attended.GetOrAdd(sweep, static _ => new Attended());
            if (attended.Running.IsCompleted && time.GetTimestamp() >= attended.NotBefore)
            {
                attended.Running = RunAsync(sweep, attended, stopping);
            }
        }

        foreach ((long sweep, Attended attended) in _attended)
        {
            if (attended.Running.IsCompleted && !running.Contains(sweep))
            {
                _attended.TryRemove(sweep, out _);
            }
        }
    }

    /// <summary>Throws nothing: a sweep's fault is no other sweep's.</summary>
    private async Task RunAsync(long sweep, Attended attended, CancellationToken stopping)
    {
        // The loop goes on at once, however long the session takes to come to its first wait.
        await Task.Yield();
        try
        {
            SweepEnd end = await worker.RunAsync(sweep, stopping, worker.Now);
            attended.Pause = FirstPause;
            SweepEnded(log, sweep, end.Ending, end.Progress.Done, end.Progress.Failed, end.Progress.Skipped);
            if (end.Ending == SweepEnding.Done)
            {
                await SumUpAsync(sweep, stopping);
            }
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            return;
        }
        catch (ArgumentException fault)
        {
            // Its specification is not for this build or these plug-ins; others may have what it needs.
            attended.Pause = LongestPause;
            SweepIsNotForThisSilo(log, sweep, fault.Message);
        }
        catch (Exception fault)
        {
            attended.Pause = Longer(attended.Pause);
            SweepFaulted(log, sweep, attended.Pause.TotalSeconds, fault);
        }

        attended.NotBefore = time.GetTimestamp() + (long)(attended.Pause.TotalSeconds * time.TimestampFrequency);
    }

    /// <summary>Keeps what the sweep came to, for whoever asks: the silo that comes first does it for all.</summary>
    private async Task SumUpAsync(long sweep, CancellationToken stopping)
    {
        try
        {
            await (await stores.GetAsync(stopping)).KeepSummaryAsync(sweep, stopping);
        }
        catch (StoreUnavailableException away)
        {
            // Then it is computed each time that it is asked for.
            IsNotSummedUp(log, sweep, away.Message);
        }
    }

    /// <summary>Twice as long, by chance up to half as long again, so that silos do not come back all at once.</summary>
    private static TimeSpan Longer(TimeSpan pause) =>
        TimeSpan.FromSeconds(Math.Min(LongestPause.TotalSeconds, 2 * pause.TotalSeconds) * (1 + (RandomNumberGenerator.GetInt32(500) / 1000.0)));

    [LoggerMessage(Level = LogLevel.Warning, Message = "The store is away, next look in {Seconds:F1} s: {Reason}")]
    private static partial void StoreIsAway(ILogger log, string reason, double seconds);

    [LoggerMessage(Level = LogLevel.Information, Message = "Sweep {Sweep} {Ending}: {Done} done, {Failed} failed, {Skipped} skipped")]
    private static partial void SweepEnded(ILogger log, long sweep, SweepEnding ending, long done, long failed, long skipped);

    [LoggerMessage(Level = LogLevel.Warning, Message = "What sweep {Sweep} came to is not kept: {Reason}")]
    private static partial void IsNotSummedUp(ILogger log, long sweep, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Sweep {Sweep} is left to other silos: {Reason}")]
    private static partial void SweepIsNotForThisSilo(ILogger log, long sweep, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "Sweep {Sweep} ended here by a fault and is taken up again in {Seconds:F1} s")]
    private static partial void SweepFaulted(ILogger log, long sweep, double seconds, Exception fault);

    private sealed class Attended
    {
        public Task Running { get; set; } = Task.CompletedTask;

        public long NotBefore { get; set; }

        public TimeSpan Pause { get; set; } = FirstPause;
    }
}
