namespace Experiments.Results.Outcomes;

/// <summary>One span as stored: a row of the table <c>span</c>.</summary>
/// <param name="TraceId">16 bytes, as in the W3C trace context, big-endian in the Guid: its "N" text is the trace id's hex.</param>
/// <param name="SpanId">8 bytes, big-endian.</param>
/// <param name="ParentId">0 for a root.</param>
/// <param name="Trial">The trial it belongs to, or null.</param>
/// <param name="Attributes">A JSON object, or null when there are none.</param>
public sealed record SpanRecord(
    Guid TraceId,
    ulong SpanId,
    ulong ParentId,
    string Name,
    string Kind,
    DateTimeOffset StartedAt,
    double DurationSeconds,
    string? Error,
    long? SweepId,
    int? Shard,
    long? Trial,
    string? Attributes);
