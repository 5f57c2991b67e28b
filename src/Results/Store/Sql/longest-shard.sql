-- The root span of the shard that took longest, or of the shard asked for.
SELECT trace_id, shard
FROM experiments.span
WHERE sweep_id = $1 AND shard IS NOT NULL AND ($2 < 0 OR shard = $2)
ORDER BY duration_seconds DESC LIMIT 1
