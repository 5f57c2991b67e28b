COPY experiments.span (
    trace_id, span_id, parent_id, started_at, duration_seconds, sweep_id, trial, shard, name, kind, error, attributes)
FROM STDIN (FORMAT BINARY)
