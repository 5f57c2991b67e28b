using System.Collections.Concurrent;
using System.Diagnostics;
using System.Security.Cryptography;
using Experiments.Grains.Running;
using Experiments.Grains.Telemetry;
using Experiments.Kernels.Numbers;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Worker;

/// <summary>One sweep's run in this process: leases in, commits out.</summary>
/// <remarks>
/// Three things go on at once. The pump asks the sweep grain for leases while there is room. Each lease has a task: its grain
/// starts it, a lane computes it, the task commits it. The keeper renews leases and looks whether the sweep has been cancelled, and how urgent
/// it is: when it is told that either has changed, and every so often in case it was not told.
/// A lease ends in exactly one of four ways: committed, lost (someone else's now), released, or left to expire with us.
/// </remarks>
[System.Diagnostics.CodeAnalysis.SuppressMessage(
    "Design", "CA1001", Justification = "Its semaphores and token source hold no handle, and a task that outlives it may use them.")]
internal sealed class SweepSession(
    SweepRow row, Catalog catalog, ResultStore store, IGrainFactory grains, ShardHost host, ComputePool pool,
    MemoryBudget memory, LeaseTurns turns, ShardSpanProcessor spans, int nodeId, SweepWorkerOptions options, TimeProvider time)
{
    private static readonly TimeSpan LongestIdle = TimeSpan.FromMilliseconds(500);
    // A grain's silo that dies is known to be dead after 2 s, one that hangs after 7, later on a machine that is busy.
    private static readonly TimeSpan GrainPatience = TimeSpan.FromSeconds(30);
    private const int MissedLooks = 10;
    private static readonly TimeSpan AwayPause = TimeSpan.FromSeconds(1);

    private readonly ISweepGrain _sweep = grains.GetGrain<ISweepGrain>(row.Id);
    private readonly ConcurrentDictionary<int, Held> _held = new();
    private readonly ConcurrentQueue<ShardLease> _committed = new();
    private readonly ConcurrentQueue<ShardLease> _toRelease = new();
    private readonly ConcurrentQueue<ShardLease> _handedOn = new();
    private readonly SemaphoreSlim _changed = new(0);
    private readonly SemaphoreSlim _told = new(0);
    private readonly SemaphoreSlim _commits = new(options.CommitsInFlight);
    private readonly CancellationTokenSource _kernels = new();
    private readonly ActivityContext _origin = Origin(row.Traceparent);
    private readonly long _startedAt = Stopwatch.GetTimestamp();
    private readonly ProgressCount _progress = new(row.Trials);
    private readonly StoredConfigurations _stored = new();

    // Replaced when a lease shows that the sweep has been extended.
    private SweepPlan _plan = SweepPlan.Of(row, catalog);
    private LeaseTurns.Share _turn = null!;

    // What the last shard cost, which is what the next ones are taken to.
    private double _lastSeconds;

    // Not from 0: a node may run a sweep again, and the grain still remembers the numbers of the first time.
    private long _sequence = Stopwatch.GetTimestamp();
    private long _leasesLost;
    private long _answeredAt;
    private int _unstored;
    private volatile bool _cancelledElsewhere;
    private volatile Exception? _fault;

    public long SweepId => row.Id;

    /// <summary>The sweep's state or priority in the store has changed, or may have.</summary>
    public void LookNow() => _told.Wake();

    public RunSnapshot Snapshot() => _progress.Snapshot(
        _held.Values.Select(h => h.Run), pool, Stopwatch.GetElapsedTime(_startedAt), Volatile.Read(ref _leasesLost), spans.Dropped);

    public async Task<SweepEnd> RunAsync(CancellationToken finish, CancellationToken now)
    {
        // What this task and its children do makes no spans by itself: a shard's trace begins where a shard does.
        Activity.Current = null;
        _turn = turns.Join(row.Priority, _plan.Measure.Sharing ? pool.Lanes.Count : 1, Changed);
        try
        {
            return await RunInTurnAsync(finish, now);
        }
        finally
        {
            turns.Leave(_turn);
        }
    }

    private async Task<SweepEnd> RunInTurnAsync(CancellationToken finish, CancellationToken now)
    {
        SweepProgress first = await store.ProgressAsync(row.Id, now);
        _answeredAt = time.GetTimestamp();
        _progress.Note(first);
        turns.SetPriority(_turn, first.Priority);
        bool done = false;
        if (first.State == SweepState.Running)
        {
            using CancellationTokenSource over = new();
            using CancellationTokenRegistration cancelNow = now.Register(_kernels.Cancel);
            using CancellationTokenRegistration wake = finish.Register(Changed);
            Task keeper = KeepAsync(over.Token);
            try
            {
                done = await PumpAsync(finish, now);
            }
            catch (Exception fault)
            {
                // Thrown on below, once the kernels have stopped and the leases are given back.
                Interlocked.CompareExchange(ref _fault, fault, null);
            }

            try
            {
                await SettleAsync(now);
            }
            finally
            {
                await over.CancelAsync();
                await keeper;
            }

            if (_fault is Exception told)
            {
                System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(told);
            }
        }

        // The end is told by the store, also when the one who is told has stopped listening.
        SweepProgress progress = await store.ProgressAsync(row.Id, CancellationToken.None);
        _progress.Note(progress);
        SweepEnding ending = done || progress.State == SweepState.Done ? SweepEnding.Done
            : progress.State == SweepState.Cancelled ? SweepEnding.Cancelled
            : SweepEnding.Interrupted;
        return new SweepEnd(ending, progress, spans.Dropped);
    }

    private static ActivityContext Origin(string? traceparent) =>
        ActivityContext.TryParse(traceparent, null, isRemote: true, out ActivityContext context) ? context : default;

    private bool Stopping(CancellationToken finish, CancellationToken now) =>
        finish.IsCancellationRequested || now.IsCancellationRequested || _cancelledElsewhere || _fault is not null;

    /// <summary>Takes leases while there is room and starts them; true when the sweep is done.</summary>
    private async Task<bool> PumpAsync(CancellationToken finish, CancellationToken now)
    {
        int lanes = _plan.Measure.Sharing ? pool.Lanes.Count : 1;
        TimeSpan idle = TimeSpan.FromMilliseconds(10);
        long? awaySince = null;
        while (!Stopping(finish, now))
        {
            // In turn with the other sweeps, and with a bound on what waits to be stored.
            int room = Math.Min(turns.Room(_turn), lanes + 1 + options.CommitsInFlight - _held.Count);
            if (room <= 0 || time.GetElapsedTime(Volatile.Read(ref _answeredAt)) > MissedLooks * options.LookEvery)
            {
                // For whom the store is away takes nothing that he could not store, though the sweep's grain might still grant it.
                await _changed.WaitAsync(options.LookEvery);
                continue;
            }

            long asked = Stopwatch.GetTimestamp();
            DateTimeOffset askedAt = time.GetUtcNow();
            LeaseGrant grant;
            Failpoints.Hit(Failpoints.BeforeLease);
            try
            {
                grant = await TakeAsync(room, isIdle: _held.IsEmpty && idle >= LongestIdle && turns.IsAlone(_turn), now);
            }
            catch (OperationCanceledException) when (now.IsCancellationRequested)
            {
                return false;
            }

            if (grant.StoreAway is string away)
            {
                awaySince ??= time.GetTimestamp();
                if (time.GetElapsedTime(awaySince.Value) >= options.StorePatience)
                {
                    throw new StoreUnavailableException(away);
                }

                TimeSpan pause = Jittered(AwayPause);
                turns.Sleep(_turn, pause);
                await _changed.WaitAsync(pause);
                continue;
            }

            awaySince = null;
            if (grant.SweepDone)
            {
                return true;
            }

            await KnowPartsAsync(grant.Leases, now);
            foreach (ShardLease lease in grant.Leases)
            {
                Failpoints.Hit(Failpoints.AfterLease);
                Launch(lease, askedAt, Stopwatch.GetElapsedTime(asked));
            }

            if (grant.Leases.Length > 0)
            {
                idle = TimeSpan.FromMilliseconds(10);
            }
            else
            {
                // The rest is leased, by us or by others: wait for ours to end, or look again after a while.
                turns.Sleep(_turn, idle);
                await _changed.WaitAsync(_held.IsEmpty ? idle : LongestIdle);
                idle = idle * 2 < LongestIdle ? idle * 2 : LongestIdle;
            }
        }

        return false;
    }

    /// <param name="isIdle">It has been told for a while that there is nothing, and no other sweep here wants the lanes.</param>
    private async Task<LeaseGrant> TakeAsync(int wanted, bool isIdle, CancellationToken now)
    {
        ShardLease[] committed = Drain(_committed);
        LeaseRequest request = new(
            nodeId, ++_sequence, wanted, options.Lease, committed, Drain(_handedOn), memory.Free, Pinning.Cores.Count, isIdle);
        long asked = time.GetTimestamp();
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                return await _sweep.Take(request, now);
            }
            catch (Exception fault) when (fault is TimeoutException or OrleansException && MayYetAnswer(attempt, asked))
            {
                // The same request, by its number: leases that were granted to the lost answer are not lost with it.
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(100 * attempt, 500)), time, now);
            }
        }
    }

    /// <summary>Asks again while the store is away, for as long as that is waited for: kernels go on, and what they have computed is kept.</summary>
    private async Task PatientlyAsync(Func<Task> ask, CancellationToken cancellation)
    {
        for (long since = time.GetTimestamp(); ;)
        {
            try
            {
                await ask();
                return;
            }
            catch (StoreUnavailableException fault) when (fault.MayPass && time.GetElapsedTime(since) < options.StorePatience)
            {
                await Task.Delay(Jittered(AwayPause), time, cancellation);
            }
        }
    }

    /// <summary>By chance from half as long to half as long again: a store that comes back is not met by all at once.</summary>
    private static TimeSpan Jittered(TimeSpan pause) => pause * (0.5 + (RandomNumberGenerator.GetInt32(1000) / 1000.0));

    /// <summary>Whether a grain that did not answer may yet: after so many tries and so long.</summary>
    private bool MayYetAnswer(int attempt, long since) => attempt < 8 || time.GetElapsedTime(since) < GrainPatience;

    /// <summary>Reads the sweep again when a lease is of a part that was added since.</summary>
    private async Task KnowPartsAsync(ShardLease[] leases, CancellationToken now)
    {
        if (Array.TrueForAll(leases, l => _plan.OfPart(l.Part) is not null))
        {
            return;
        }

        try
        {
            _plan = SweepPlan.Of(await store.FindSweepAsync(row.Id, now) ?? throw new ArgumentException($"Sweep {row.Id} was deleted."), catalog);
        }
        catch
        {
            Array.ForEach(leases, _toRelease.Enqueue);
            throw;
        }
    }

    private void Launch(ShardLease lease, DateTimeOffset askedAt, TimeSpan waited)
    {
        CancellationTokenSource cancel = CancellationTokenSource.CreateLinkedTokenSource(_kernels.Token);
        HashSet<long> none = [];
        Held held = new(lease, cancel)
        {
            Run = RunOf(_plan.OfPart(lease.Part)!, lease, none, new OutcomeList(), cancel.Token), Turn = turns.Took(_turn, _lastSeconds),
        };
        _held[lease.Shard] = held;
        held.Task = FollowAsync(held, askedAt, waited);
    }

    private ShardRun RunOf(SweepPlan plan, ShardLease lease, IReadOnlySet<long> stored, IOutcomes outcomes, CancellationToken cancel) =>
        new(plan, lease, stored, outcomes, cancel) { Beginning = () => SayBegun(lease, cancel), HandOn = (bytes, cores) => HandOn(lease, bytes, cores, cancel) };

    private bool HandOn(ShardLease lease, double? freeBytes, int? cores, CancellationToken cancel)
    {
        try
        {
            return store.HandOnAsync(lease, nodeId, freeBytes, cores, cancel).GetAwaiter().GetResult();
        }
        catch (StoreUnavailableException)
        {
            // Nobody is known to have more room.
            return false;
        }
    }

    /// <summary>Tells the store, while the lane waits, that the shard is being computed from now on.</summary>
    private void SayBegun(ShardLease lease, CancellationToken cancel)
    {
        using CancellationTokenSource limit = new(options.SayBegunWithin, time);
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancel);
        try
        {
            store.BegunAsync(lease, nodeId, either.Token).GetAwaiter().GetResult();
        }
        catch (Exception fault) when (fault is StoreUnavailableException || (fault is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            // A store that is away keeps no lane idle. Should the shard kill us now, that is one death more before it is isolated.
        }
    }

    /// <summary>One lease from its grant to its end. Throws nothing: what goes wrong ends the session.</summary>
    private async Task FollowAsync(Held held, DateTimeOffset askedAt, TimeSpan waited)
    {
        try
        {
            await RunShardAsync(held, askedAt, waited);
        }
        catch (OperationCanceledException) when (held.Cancel.IsCancellationRequested)
        {
            GiveBack(held);
        }
        catch (ShardHandedOnException)
        {
            _handedOn.Enqueue(held.Lease);
        }
        catch (Exception fault)
        {
            GiveBack(held);
            Interlocked.CompareExchange(ref _fault, fault, null);
            await _kernels.CancelAsync();
        }
        finally
        {
            host.Forget(held.Run);
            LeftItsLane(held);
            Interlocked.Add(ref _unstored, held.Unstored && !held.Lost ? 1 : 0);
            _held.TryRemove(new KeyValuePair<int, Held>(held.Lease.Shard, held));
            held.Cancel.Dispose();
            Changed();
        }
    }

    private async Task RunShardAsync(Held held, DateTimeOffset askedAt, TimeSpan waited)
    {
        ShardLease lease = held.Lease;
        Activity.Current = null;
        using Activity? shard = ExperimentsTelemetry.Source.StartActivity(
            "shard", ActivityKind.Internal, default(ActivityContext), Tags(lease),
            _origin == default ? null : [new ActivityLink(_origin)], askedAt);
        ActivityTraceId trace = shard?.TraceId ?? ActivityTraceId.CreateRandom();
        if (shard is not null)
        {
            ShardTraces.Begin(trace);
        }

        IReadOnlyList<SpanRecord> spanRecords = [];
        ShardRows rows;
        ShardResult result;
        try
        {
            using (Activity? leased = ExperimentsTelemetry.Source.StartActivity(
                "lease", ActivityKind.Internal, shard?.Context ?? default, Tags(lease), null, askedAt))
            {
                leased?.SetEndTime((askedAt + waited).UtcDateTime);
            }

            IReadOnlySet<long> stored = new HashSet<long>();
            if (lease.StoredTrials > 0)
            {
                await PatientlyAsync(async () => stored = await store.StoredTrialsAsync(lease.SweepId, lease.Shard, held.Cancel.Token), held.Cancel.Token);
            }

            // Anew: what its rows carry and what it has to leave out are known only now.
            rows = new ShardRows(lease, nodeId, SpanRecords.IdOf(trace));
            held.Run = RunOf(held.Run.Plan, lease, stored, rows, held.Cancel.Token);
            host.Expect(held.Run);
            await StartAsync(held, shard);
            _ = held.Run.Completion.ContinueWith(
                _ => LeftItsLane(held), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            result = await held.Run.Completion;
        }
        finally
        {
            // The root ends before the commit, so that it is stored with the trials that it explains.
            shard?.Stop();
            spanRecords = ShardTraces.End(trace, lease);
        }

        await CommitAsync(held, new ShardCommit(rows, [.. spanRecords, .. result.Spans], result.References) { Kills = result.Kills }, shard);
    }

    private void LeftItsLane(Held held)
    {
        if (held.TryEndTurn())
        {
            // Alone on the machine, it had every lane.
            double seconds = held.Run.Seconds * (_plan.Measure.Sharing ? 1 : pool.Lanes.Count);
            _lastSeconds = seconds > 0 ? seconds : _lastSeconds;
            turns.Ended(held.Turn, seconds);
        }

        Changed();
    }

    private async Task StartAsync(Held held, Activity? shard)
    {
        Activity.Current = shard;
        IShardGrain grain = grains.GetGrain<IShardGrain>($"{held.Lease.SweepId}/{held.Lease.Shard}/{held.Lease.Epoch}/{nodeId}");
        for (int attempt = 1; attempt <= 10; attempt++)
        {
            try
            {
                if (await grain.Start(held.Lease, held.Cancel.Token) == ShardStart.Begun)
                {
                    return;
                }
            }
            catch (Exception fault) when (fault is TimeoutException or OrleansException)
            {
                // Whether it began is unknown, and asking again is safe: a lease is begun once.
            }

            await Task.Delay(TimeSpan.FromMilliseconds(50 * attempt), time, held.Cancel.Token);
        }

        // Its part of the directory lies on a silo that hangs; or a silo that is asked for a grain which has just left it
        // makes it there again, and again. What the grain would do here is done without it, once all the same.
        if (!host.Begin(held.Lease, shard?.Context ?? default))
        {
            await LostAsync(held);
            await held.TryCancelAsync();
            held.Cancel.Token.ThrowIfCancellationRequested();
        }
    }

    private async Task CommitAsync(Held held, ShardCommit commit, Activity? shard)
    {
        Activity.Current = null;
        await _commits.WaitAsync(CancellationToken.None);
        try
        {
            Failpoints.Hit(Failpoints.BeforeCommit);
            using Activity? span = shard is null ? null : ExperimentsTelemetry.Source.StartActivity(
                "commit", ActivityKind.Internal, shard.Context, Tags(held.Lease));
            spans.Own(span);
            span?.SetTag("experiments.trials", commit.Rows.Count);
            span?.SetTag("experiments.spans", commit.Spans.Count);

            IReadOnlyDictionary<StoredConfiguration, int> configurations = commit.Rows.Configurations;
            commit = commit with { SeenBefore = _stored.SeenBefore(configurations) };
            CommitResult outcome = CommitResult.Fenced;
            await PatientlyAsync(async () => outcome = await TryCommitAsync(held, commit), held.Cancel.Token);
            commit.Rows.Dispose();
            Failpoints.Hit(Failpoints.AfterCommit);
            span?.SetTag("experiments.commit", outcome.ToString());
            if (outcome == CommitResult.Stored)
            {
                _stored.Add(configurations);
                _progress.Committed(held.Run);
                _committed.Enqueue(held.Lease);
            }
            else
            {
                await LostAsync(held);
            }
        }
        finally
        {
            _commits.Release();
        }
    }

    private async Task<CommitResult> TryCommitAsync(Held held, ShardCommit commit)
    {
        held.Cancel.Token.ThrowIfCancellationRequested();
        held.Committing = true;
        try
        {
            // Not to be cancelled halfway: the transaction is short, and its outcome must be known.
            CommitResult outcome = await store.CommitAsync(commit, CancellationToken.None);
            held.Unstored = false;
            return outcome;
        }
        catch (StoreUnavailableException)
        {
            // Until the next try it is a lease like others: renewed, lost, given back.
            held.Unstored = true;
            held.Committing = false;
            throw;
        }
    }

    private KeyValuePair<string, object?>[] Tags(ShardLease lease) =>
    [
        new("experiments.sweep.id", lease.SweepId),
        new("experiments.shard", lease.Shard),
        new("experiments.epoch", lease.Epoch),
        new("experiments.node", nodeId),
    ];

    private void GiveBack(Held held)
    {
        if (!held.Lost && !held.Committing)
        {
            _toRelease.Enqueue(held.Lease);
        }
    }

    private async Task LostAsync(Held held)
    {
        held.Lost = true;
        Interlocked.Increment(ref _leasesLost);
        ExperimentsTelemetry.LeasesLost.Add(1);
        try
        {
            // Whoever has it now may have thought us dead, as when the server restarts under us all.
            await store.SurvivedAsync(held.Lease, nodeId, CancellationToken.None);
        }
        catch (StoreUnavailableException)
        {
            // It counts for a death that was none: one more makes the shard slower, and changes nothing that is stored.
        }
    }

    /// <summary>Lets what runs end, or ends it, and gives back what was not stored.</summary>
    private async Task SettleAsync(CancellationToken now)
    {
        if (_cancelledElsewhere || _fault is not null || now.IsCancellationRequested)
        {
            await _kernels.CancelAsync();
        }

        // What no lane has taken up goes back unrun.
        foreach (Held held in _held.Values)
        {
            if (!held.Run.Started)
            {
                await held.TryCancelAsync();
                host.Forget(held.Run);
            }
        }

        Task all = Task.WhenAll(_held.Values.Select(h => h.Task));
        using (CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(now, _kernels.Token))
        {
            await all.WaitAsync(options.FinishWithin, time, limit.Token)
                .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        if (!all.IsCompleted)
        {
            // Commits on their way are let through; it is the kernels that are stopped.
            await _kernels.CancelAsync();
            await all.WaitAsync(options.GiveUpAfter, time, CancellationToken.None).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        if (_unstored > 0 && !_cancelledElsewhere)
        {
            Interlocked.CompareExchange(
                ref _fault,
                new StoreUnavailableException($"{_unstored} computed shards of sweep {row.Id} could not be stored, since the store was away; they are computed again."),
                null);
        }

        ShardLease[] back = [.. Drain(_toRelease), .. _held.Values.Where(h => !h.Committing && !h.Lost).Select(h => h.Lease)];
        if (back.Length > 0 && _fault is not StoreUnavailableException)
        {
            try
            {
                using CancellationTokenSource limit = new(options.GiveUpAfter, time);
                await store.ReleaseAsync(back, nodeId, limit.Token);
            }
            catch (Exception fault) when (fault is StoreUnavailableException or OperationCanceledException)
            {
                // Not given back, they go to whoever asks as soon as this process's liveness lock is gone.
                Interlocked.CompareExchange(ref _fault, fault as StoreUnavailableException, null);
            }
        }
    }

    /// <summary>Renews leases and looks whether the sweep was cancelled, until told that the session is over.</summary>
    /// <remarks>A look that was asked for while another was under way is made after it: the one under way may have come too early.</remarks>
    private async Task KeepAsync(CancellationToken over)
    {
        long renewedAt = time.GetTimestamp();
        long lookedAt = renewedAt;
        try
        {
            while (true)
            {
                bool told = await _told.WaitAsync(Shorter(Left(lookedAt, options.LookEvery), Left(renewedAt, options.RenewEvery)), over);
                if (told || Left(lookedAt, options.LookEvery) == TimeSpan.Zero)
                {
                    lookedAt = time.GetTimestamp();
                    await PatientlyAsync(() => LookAsync(over), over);
                }

                if (!_cancelledElsewhere && Left(renewedAt, options.RenewEvery) == TimeSpan.Zero)
                {
                    renewedAt = time.GetTimestamp();
                    await PatientlyAsync(() => RenewAsync(over), over);
                }
            }
        }
        catch (OperationCanceledException) when (over.IsCancellationRequested)
        {
            return;
        }
        catch (Exception fault)
        {
            Interlocked.CompareExchange(ref _fault, fault, null);
            await _kernels.CancelAsync();
            Changed();
        }
    }

    private TimeSpan Left(long since, TimeSpan every)
    {
        TimeSpan left = every - time.GetElapsedTime(since);

        // A timer counts whole milliseconds.
        return left > TimeSpan.FromMilliseconds(1) ? left : TimeSpan.Zero;
    }

    private static TimeSpan Shorter(TimeSpan one, TimeSpan other) => one < other ? one : other;

    private async Task LookAsync(CancellationToken over)
    {
        long before = _progress.CommittedTrials;
        SweepProgress progress = await store.ProgressAsync(row.Id, over);
        Volatile.Write(ref _answeredAt, time.GetTimestamp());
        _progress.Note(progress, before);
        turns.SetPriority(_turn, progress.Priority);
        if (progress.State == SweepState.Cancelled)
        {
            _cancelledElsewhere = true;
            await _kernels.CancelAsync();
            Changed();
        }
    }

    private async Task RenewAsync(CancellationToken over)
    {
        Held[] mine = [.. _held.Values.Where(h => !h.Committing && !h.Lost)];
        if (mine.Length == 0)
        {
            return;
        }

        IReadOnlyList<ShardLease> still = await store.RenewAsync([.. mine.Select(h => h.Lease)], nodeId, options.Lease, over);
        if (still.Count < mine.Length)
        {
            // A cancelled sweep's leases are not renewed either, and those are still ours to give back.
            await LookAsync(over);
            if (_cancelledElsewhere)
            {
                return;
            }
        }

        HashSet<(int, int)> held = [.. still.Select(l => (l.Shard, l.Epoch))];
        foreach (Held one in mine)
        {
            // A shard that is being committed meanwhile is settled by its commit, which the epoch guards.
            if (!held.Contains((one.Lease.Shard, one.Lease.Epoch)) && !one.Committing && !one.Lost)
            {
                Task told = LostAsync(one);
                await one.TryCancelAsync();
                await told;
            }
        }
    }

    private static ShardLease[] Drain(ConcurrentQueue<ShardLease> queue)
    {
        List<ShardLease> drained = [];
        while (queue.TryDequeue(out ShardLease? lease))
        {
            drained.Add(lease);
        }

        return [.. drained];
    }

    private void Changed() => _changed.Wake();

    /// <summary>A lease of this session, until its end.</summary>
    private sealed class Held(ShardLease lease, CancellationTokenSource cancel)
    {
        private volatile bool _committing;
        private volatile bool _lost;
        private volatile bool _unstored;
        private int _turnEnded;

        public ShardLease Lease { get; } = lease;

        public CancellationTokenSource Cancel { get; } = cancel;

        public required ShardRun Run { get; set; }

        public required LeaseTurns.Turn Turn { get; init; }

        public Task Task { get; set; } = Task.CompletedTask;

        public bool Committing
        {
            get => _committing;
            set => _committing = value;
        }

        public bool Lost
        {
            get => _lost;
            set => _lost = value;
        }

        /// <summary>It is computed, and the store was away when it was to be committed.</summary>
        public bool Unstored
        {
            get => _unstored;
            set => _unstored = value;
        }

        /// <summary>True once: the first to see it leave its lane.</summary>
        public bool TryEndTurn() => Interlocked.Exchange(ref _turnEnded, 1) == 0;

        public async Task TryCancelAsync()
        {
            try
            {
                await Cancel.CancelAsync();
            }
            catch (ObjectDisposedException)
            {
                // It has ended by itself meanwhile, which is all that was wanted.
            }
        }
    }
}
