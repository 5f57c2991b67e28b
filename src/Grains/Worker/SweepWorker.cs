using System.Collections.Concurrent;
using Experiments.Grains.Running;
using Experiments.Grains.Telemetry;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Microsoft.Extensions.Hosting;

namespace Experiments.Grains.Worker;

/// <summary>A silo's worker: it registers the silo as a node, leases shards, has their grains run them, and commits.</summary>
/// <remarks>Started after the silo and stopped before it, so that leases are given back while grains still answer.</remarks>
public sealed class SweepWorker(
    StoreHandle stores, IGrainFactory grains, ShardHost host, ComputePool pool, MemoryBudget memory, Catalog catalog, ShardSpanProcessor spans,
    NodeRow node, SweepWorkerOptions options, TimeProvider time) : BackgroundService
{
    private readonly TaskCompletionSource<int> _nodeId = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ConcurrentDictionary<SweepSession, Task> _sessions = new();
    private readonly LeaseTurns _turns = new(pool.Lanes.Count, time);
    private readonly CancellationTokenSource _stopping = new();
    private readonly CancellationTokenSource _now = new();
    private volatile SweepSession? _last;

    /// <summary>The state of some sweep in the store has changed, or may have. Raised on the thread that listens.</summary>
    internal event Action? SweepsChanged;

    /// <summary>Runs one sweep here until it is done, cancelled or interrupted.</summary>
    /// <param name="finishRunning">Take nothing more; what runs may end shortly, the rest is given back.</param>
    /// <param name="now">Cancel the kernels and give everything back.</param>
    /// <exception cref="ArgumentException">The store has no such sweep.</exception>
    /// <exception cref="StoreUnavailableException">The store went away for longer than its retries last.</exception>
    public async Task<SweepEnd> RunAsync(long sweepId, CancellationToken finishRunning, CancellationToken now)
    {
        using CancellationTokenSource finish = CancellationTokenSource.CreateLinkedTokenSource(finishRunning, _stopping.Token);
        ResultStore store = await stores.GetAsync(now);
        int nodeId = await _nodeId.Task.WaitAsync(now);
        SweepRow row = await store.FindSweepAsync(sweepId, now)
            ?? throw new ArgumentException($"There is no sweep {sweepId} in the store. `experiments list` shows those there are.");
        SweepSession session = new(row, catalog, store, grains, host, pool, memory, _turns, spans, nodeId, options, time);
        _last = session;

        // Listed before it looks at the store for the first time: of what changes after that it is told.
        Task<Task<SweepEnd>> start = new(() => session.RunAsync(finish.Token, now));
        Task<SweepEnd> end = start.Unwrap();
        _sessions[session] = end;
        start.RunSynchronously(TaskScheduler.Default);
        try
        {
            return await end;
        }
        finally
        {
            _sessions.TryRemove(session, out _);
        }
    }

    /// <summary>Cancelled when nothing may be waited for any more: see <see cref="StopNow"/>.</summary>
    public CancellationToken Now => _now.Token;

    /// <summary>The silo's node in the store; null before it is registered.</summary>
    public int? NodeId => _nodeId.Task.IsCompletedSuccessfully ? _nodeId.Task.Result : null;

    /// <summary>Cancels every kernel; leases are still given back.</summary>
    public void StopNow() => _now.Cancel();

    /// <summary>The sweep that runs here, or was the last to; null before the first.</summary>
    public RunSnapshot? Snapshot() => _last?.Snapshot();

    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        await _stopping.CancelAsync();

        // How each ended is its caller's to hear; here it only matters that it has.
        await Task.WhenAll(_sessions.Values).WaitAsync(cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await base.StopAsync(cancellationToken);
        if (_nodeId.Task.IsCompletedSuccessfully)
        {
            ResultStore store = await stores.GetAsync(cancellationToken);
            await store.UnregisterNodeAsync(await _nodeId.Task);
        }
    }

    public override void Dispose()
    {
        _stopping.Dispose();
        _now.Dispose();
        base.Dispose();
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        try
        {
            ResultStore store = await stores.GetAsync(stoppingToken);
            _nodeId.TrySetResult(await RegisterAsync(store, stoppingToken));
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            _nodeId.TrySetCanceled(stoppingToken);
        }
        catch (Exception fault)
        {
            // Whoever wants to run a sweep hears of it; a silo that nobody asks to has no use for the store.
            _nodeId.TrySetException(fault);
        }
    }

    private async Task<int> RegisterAsync(ResultStore store, CancellationToken stopping)
    {
        while (true)
        {
            try
            {
                return await store.RegisterNodeAsync(node, Told, stopping);
            }
            catch (StoreUnavailableException) when (options.WaitsForStore)
            {
                await Task.Delay(options.LookEvery, time, stopping);
            }
        }
    }

    /// <param name="sweep">Whose state has changed; null when any one's may have.</param>
    private void Told(long? sweep)
    {
        foreach (SweepSession session in _sessions.Keys)
        {
            if (sweep is null || session.SweepId == sweep)
            {
                session.LookNow();
            }
        }

        SweepsChanged?.Invoke();
    }
}
