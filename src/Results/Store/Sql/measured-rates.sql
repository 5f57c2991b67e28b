-- A few shards of a few sweeps: hundreds of thousands of rows at most, however much is stored.
SELECT t.kernel, t.precision, sum(t.flops) / sum(t.seconds_median * least(t.threads, coalesce((n.facts->>'cores')::int, t.threads)))
FROM (SELECT id FROM experiments.sweep ORDER BY id DESC LIMIT 10) w
CROSS JOIN LATERAL (
    SELECT number FROM experiments.shard WHERE sweep_id = w.id AND state = 'done' ORDER BY predicted_seconds DESC LIMIT 4
) s
JOIN experiments.trial t ON t.sweep_id = w.id AND t.shard = s.number
-- Of more threads than cores no more ran.
JOIN experiments.node n ON n.id = t.node_id
WHERE t.status = 'done' AND t.flops > 0 AND t.seconds_median > 0
GROUP BY t.kernel, t.precision
