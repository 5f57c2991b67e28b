using System.Collections.Concurrent;
using System.Diagnostics;
using Experiments.Results.Outcomes;

namespace Experiments.Grains.Telemetry;

/// <summary>The traces of shards that are running in this process; their spans wait here to be committed with the shard.</summary>
/// <remarks>Kept for the process and not for a silo: activities are the process's, and of two silos in one (a test has them)
/// only the shard's own may store its spans.</remarks>
internal static class ShardTraces
{
    private static readonly ConcurrentDictionary<ActivityTraceId, ConcurrentQueue<Activity>> Open = new();

    public static void Begin(ActivityTraceId trace) => Open.TryAdd(trace, new ConcurrentQueue<Activity>());

    /// <summary>Keeps a span that has ended, when its trace is a running shard's.</summary>
    public static bool Keep(Activity activity, bool collect)
    {
        if (!Open.TryGetValue(activity.TraceId, out ConcurrentQueue<Activity>? spans))
        {
            return false;
        }

        if (collect)
        {
            spans.Enqueue(activity);
        }

        return true;
    }

    /// <summary>The spans so far. What the trace gets from now on goes the way of all other spans.</summary>
    public static IReadOnlyList<SpanRecord> End(ActivityTraceId trace, ShardLease lease) =>
        Open.TryRemove(trace, out ConcurrentQueue<Activity>? spans)
            ? [.. spans.Select(a => SpanRecords.Of(a, lease))]
            : [];
}
