using System.Diagnostics;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using OpenTelemetry;

namespace Experiments.Grains.Telemetry;

/// <summary>Writes batches of spans into the store, on the batch processor's own thread.</summary>
public sealed class PostgresSpanExporter(StoreHandle stores) : BaseExporter<Activity>
{
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(10);
    private readonly object _gate = new();
    private long _exported;
    private long _failed;

    /// <summary>Spans that the store did not take. They are not tried again: their trials are safe without them.</summary>
    public long Failed => Volatile.Read(ref _failed);

    /// <summary>Spans that the store has taken or refused.</summary>
    public long Ended => Volatile.Read(ref _exported) + Volatile.Read(ref _failed);

    /// <summary>Waits until so many have ended; false when they have not in that time.</summary>
    public bool WaitUntilEnded(long count, TimeSpan within)
    {
        long start = Stopwatch.GetTimestamp();
        lock (_gate)
        {
            while (Ended < count)
            {
                TimeSpan left = within - Stopwatch.GetElapsedTime(start);
                if (left <= TimeSpan.Zero || !Monitor.Wait(_gate, left))
                {
                    return Ended >= count;
                }
            }
        }

        return true;
    }

    public override ExportResult Export(in Batch<Activity> batch)
    {
        // The store's own calls make no spans, or each export would make more to export.
        using IDisposable quiet = SuppressInstrumentationScope.Begin();
        List<SpanRecord> spans = new((int)batch.Count);
        try
        {
            foreach (Activity activity in batch)
            {
                spans.Add(SpanRecords.Of(activity, null));
            }

            using CancellationTokenSource limit = new(Longest);
            WriteAsync(spans, limit.Token).GetAwaiter().GetResult();
            Count(ref _exported, spans.Count);
            return ExportResult.Success;
        }
        catch (Exception fault) when (fault is StoreUnavailableException or OperationCanceledException or ObjectDisposedException)
        {
            // Counted, and the count is shown: see ShardSpanProcessor.Dropped.
            Count(ref _failed, spans.Count);
            return ExportResult.Failure;
        }
    }

    private void Count(ref long total, int spans)
    {
        lock (_gate)
        {
            total += spans;
            Monitor.PulseAll(_gate);
        }
    }

    private async Task WriteAsync(List<SpanRecord> spans, CancellationToken cancellation)
    {
        ResultStore store = await stores.GetAsync(cancellation);
        await store.WriteSpansAsync(spans, cancellation);
    }
}
