-- The epoch stays, or the holder would be fenced: whoever commits first is the one.
WITH grantable AS (
    SELECT s.number
    FROM experiments.shard s
    JOIN experiments.live_node holder ON holder.node_id = s.node_id
    WHERE s.sweep_id = $1 AND s.number = ANY ($2) AND s.state = 'leased' AND s.node_id <> $3 AND s.lease_until >= clock_timestamp()
      AND EXISTS (SELECT 1 FROM experiments.sweep w WHERE w.id = $1 AND w.state = 'running'
                    AND (w.plug_ins IS NULL OR EXISTS (
                        SELECT 1 FROM experiments.node k WHERE k.id = $3 AND k.facts -> 'plugins' @> w.plug_ins)))
      AND EXISTS (SELECT 1 FROM experiments.node k
            WHERE k.id = $3 AND experiments.has_room(k.facts, s.needs_free_bytes, s.needs_cores, NULL))
      AND (s.second_node IS NULL OR s.second_until < clock_timestamp()
           OR NOT EXISTS (SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.second_node))
    ORDER BY s.number
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE experiments.shard s
SET second_node = $3, second_until = clock_timestamp() + $4
FROM grantable g, experiments.sweep w
WHERE s.sweep_id = $1 AND s.number = g.number AND w.id = $1
RETURNING s.number, s.epoch, s.first_instance, s.end_instance, s.first_trial, s.trials,
    s.trials_done + s.trials_failed + s.trials_skipped, s.part, s.own, cardinality(s.dead_nodes),
    w.isolated OR EXISTS (
        SELECT 1 FROM experiments.shard o
        WHERE o.sweep_id = $1 AND cardinality(o.dead_nodes) >= 2 AND o.state <> 'done' AND o.number <> s.number)
