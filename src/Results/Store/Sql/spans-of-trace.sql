SELECT trace_id, span_id, parent_id, name, kind, started_at, duration_seconds, error, sweep_id, shard, trial, attributes::text
FROM experiments.span
WHERE trace_id = $1
ORDER BY started_at, span_id
