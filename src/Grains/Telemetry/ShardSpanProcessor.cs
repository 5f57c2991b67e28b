using System.Diagnostics;
using OpenTelemetry;

namespace Experiments.Grains.Telemetry;

/// <summary>Sends each ended span where it is stored: a running shard's to its commit, every other to a batching exporter.</summary>
public sealed class ShardSpanProcessor : BaseProcessor<Activity>
{
    private const string Owner = "experiments.owner";

    // One processor of a process collects a shard's spans, or two silos in one process would store each of them twice.
    private static ShardSpanProcessor? _collector;

    private readonly BatchActivityExportProcessor _batch;
    private readonly PostgresSpanExporter _exporter;
    private long _queued;
    private long _refused;

    public ShardSpanProcessor(PostgresSpanExporter exporter)
    {
        ArgumentNullException.ThrowIfNull(exporter);
        _exporter = exporter;
        _batch = new BatchActivityExportProcessor(
            exporter, maxQueueSize: QueueSize, scheduledDelayMilliseconds: 500, exporterTimeoutMilliseconds: 10_000,
            maxExportBatchSize: BatchSize);
        Interlocked.CompareExchange(ref _collector, this, null);
    }

    public const int QueueSize = 8192;

    private const int BatchSize = 2048;

    /// <summary>Spans that will not be stored: the store refused them, or too many were waiting for it.</summary>
    public long Dropped => _exporter.Failed + Volatile.Read(ref _refused);

    /// <summary>Marks a span outside of any shard's transaction as this silo's to store.</summary>
    public void Own(Activity? activity) => activity?.SetCustomProperty(Owner, this);

    public override void OnEnd(Activity data)
    {
        Interlocked.CompareExchange(ref _collector, this, null);
        if (ShardTraces.Keep(data, collect: ReferenceEquals(_collector, this)))
        {
            return;
        }

        if (data.Recorded && (data.GetCustomProperty(Owner) is not ShardSpanProcessor owner || ReferenceEquals(owner, this)))
        {
            // The batch processor drops what its queue has no room for without a word, so the queue is never let run over.
            long queued = Interlocked.Increment(ref _queued);
            if (queued - _exporter.Ended > QueueSize)
            {
                Interlocked.Decrement(ref _queued);
                Interlocked.Increment(ref _refused);
            }
            else
            {
                _batch.OnEnd(data);
            }
        }
    }

    /// <summary>True when every span that had ended is stored or known to be lost.</summary>
    protected override bool OnForceFlush(int timeoutMilliseconds)
    {
        long queued = Volatile.Read(ref _queued);
        long start = Stopwatch.GetTimestamp();

        // The batch processor calls its queue flushed when it is empty, which it is while the last batch is still on its way.
        return _batch.ForceFlush(timeoutMilliseconds)
            && _exporter.WaitUntilEnded(queued, timeoutMilliseconds < 0
                ? TimeSpan.FromDays(1)
                : TimeSpan.FromMilliseconds(timeoutMilliseconds) - Stopwatch.GetElapsedTime(start));
    }

    protected override bool OnShutdown(int timeoutMilliseconds)
    {
        Interlocked.CompareExchange(ref _collector, null, this);
        return _batch.Shutdown(timeoutMilliseconds);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Interlocked.CompareExchange(ref _collector, null, this);
            _batch.Dispose();
        }

        base.Dispose(disposing);
    }
}
