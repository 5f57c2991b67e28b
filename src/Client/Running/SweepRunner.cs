using System.Diagnostics;
using Experiments.Client.Summaries;
using Experiments.Client.Terminals;
using Experiments.Grains;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Silo;
using Experiments.Silo.Hosting;

namespace Experiments.Client.Running;

/// <summary>Runs a stored or about-to-be-stored sweep in this process: store and silo start side by side.</summary>
internal static class SweepRunner
{
    /// <param name="lanes">From the command line; the settings' otherwise.</param>
    /// <param name="prepare">Finds or creates the sweep while the silo is still starting.</param>
    public static async Task<ExitCode> RunAsync(
        Invocation invocation, int? lanes, Func<ResultStore, CancellationToken, Task<Prepared>> prepare)
    {
        Terminal terminal = invocation.Terminal;
        Interrupts interrupts = terminal.Interrupts;
        CancellationToken cancellation = interrupts.Finish;
        DateTimeOffset startedAt = terminal.Clock.GetUtcNow();
        Action<string> say = terminal.Notice;
        interrupts.Signalled += count => say(count == 1
            ? "Finishing what runs, then stopping. Ctrl-C again stops now."
            : "Stopping now.");
        LocalSiloOptions options = new(lanes ?? invocation.Settings.Lanes, invocation.Verbose)
        {
            Workbench = invocation.Workbench,
            PlugIns = invocation.PlugIns,
            Isolation = IsolatedProcess.OptionsOf(invocation.Settings),
            Files = invocation.Settings.FilesCache,
            TraceShare = invocation.Settings.TraceShare,
        };
        Task<StoreAddress> address = Task.Run(() => Stores.LocateAsync(invocation, cancellation), cancellation);
        Task<ResultStore> opening = OpenAsync(address, cancellation);
        Task<LocalSilo> starting = Task.Run(() => LocalSilo.StartAsync(options, opening, cancellation), cancellation);
        ResultStore store;
        Prepared prepared;
        try
        {
            store = await opening;
            prepared = await prepare(store, cancellation);
        }
        catch
        {
            // The first fault is the one to tell of; the silo, which waits for the store, ends by the same fault.
            await EndAsync(starting);
            if (opening.IsCompletedSuccessfully)
            {
                await opening.Result.DisposeAsync();
            }

            throw;
        }

        await using (store)
        {
            if (prepared.NothingToRun)
            {
                await EndAsync(starting);
                await store.KeepSummaryAsync(prepared.SweepId, CancellationToken.None);
                await SummaryReport.WriteAsync(invocation, store, prepared.SweepId, all: true, CancellationToken.None);
                return CodeOf(await store.ProgressAsync(prepared.SweepId, CancellationToken.None));
            }

            SweepEnd end;
            try
            {
                await using LocalSilo silo = await starting;
                ProgressView view = new(terminal, $"{prepared.Name}, sweep {prepared.SweepId}");
                say = view.Say;
                Task<SweepEnd> running = silo.RunAsync(prepared.SweepId, interrupts.Finish, interrupts.Now);
                await view.ShowAsync(silo.Snapshot, running);
                end = await running;
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                // Stopped before the silo was up: the sweep is stored, and nothing of it has run.
                end = new SweepEnd(
                    SweepEnding.Interrupted, await store.ProgressAsync(prepared.SweepId, CancellationToken.None), SpansDropped: 0);
            }
            finally
            {
                say = terminal.Notice;
            }

            if (prepared.Trace is { TraceFlags: ActivityTraceFlags.Recorded } trace)
            {
                await store.WriteSpansAsync([RootSpan(trace, prepared.SweepId, startedAt, terminal.Clock.GetUtcNow())],
                    CancellationToken.None);
            }

            return await ReportAsync(invocation, store, prepared.SweepId, end);
        }
    }

    /// <summary>What a sweep's trials came to, as an exit code.</summary>
    public static ExitCode CodeOf(SweepProgress progress) =>
        progress.Done + progress.Failed + progress.Skipped < progress.Trials ? ExitCode.Interrupted
        : progress.Failed + progress.Skipped > 0 ? ExitCode.SomeFailed
        : ExitCode.Done;

    private static async Task<ResultStore> OpenAsync(Task<StoreAddress> address, CancellationToken cancellation) =>
        await ResultStore.OpenAsync(await address, cancellation);

    private static async Task<ExitCode> ReportAsync(Invocation invocation, ResultStore store, long id, SweepEnd end)
    {
        Terminal terminal = invocation.Terminal;
        if (end.SpansDropped > 0)
        {
            terminal.Notice($"{Format.Count(end.SpansDropped)} {(end.SpansDropped == 1 ? "span was" : "spans were")} not stored: the store "
                + "could not take them in time.");
        }

        if (end.OtlpFault is string fault)
        {
            terminal.Notice(invocation.Settings.NotDelivered(fault));
        }

        if (end.Ending != SweepEnding.Done)
        {
            SweepProgress progress = end.Progress;
            long stored = progress.Done + progress.Failed + progress.Skipped;
            terminal.Notice(
                $"Sweep {id} {(end.Ending == SweepEnding.Cancelled ? "was cancelled" : "is interrupted")}: "
                + $"{Format.Count(stored)} of {Format.Count(progress.Trials)} trials are stored. "
                + $"It goes on with: experiments resume {id}");
            return ExitCode.Interrupted;
        }

        await store.KeepSummaryAsync(id, CancellationToken.None);
        await SummaryReport.WriteAsync(invocation, store, id, all: true, CancellationToken.None);
        return CodeOf(end.Progress);
    }

    private static async Task EndAsync(Task<LocalSilo> starting)
    {
        try
        {
            await using LocalSilo silo = await starting;
        }
        catch (Exception fault) when (fault is not OutOfMemoryException)
        {
            // Its fault is the store's, which the caller is about to report, or the same interruption.
            Debug.WriteLine(fault);
        }
    }

    private static SpanRecord RootSpan(ActivityContext trace, long sweepId, DateTimeOffset startedAt, DateTimeOffset endedAt)
    {
        Span<byte> id = stackalloc byte[16];
        trace.TraceId.CopyTo(id);
        Span<byte> span = stackalloc byte[8];
        trace.SpanId.CopyTo(span);
        return new SpanRecord(
            new Guid(id, bigEndian: true), System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(span), 0,
            "experiments run", "client", startedAt, (endedAt - startedAt).TotalSeconds, null, sweepId, null, null, null);
    }
}

/// <param name="Trace">The command's own trace, when this command made the sweep.</param>
/// <param name="NothingToRun">The sweep is finished: only its summary is left to print.</param>
/// <param name="PutBack">How many trials a retry has put back.</param>
/// <param name="Added">How many trials an extension has added.</param>
internal sealed record Prepared(
    long SweepId, string Name, ActivityContext? Trace = null, bool NothingToRun = false, long? PutBack = null,
    long? Added = null);
