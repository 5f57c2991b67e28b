-- Rows that another statement holds are left to it: two grants at once never wait for each other, nor lock each other dead.
WITH grantable AS (
    SELECT s.number, s.state = 'leased' AND s.begun_epoch = s.epoch AND NOT EXISTS (
        SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.node_id) AS died
    FROM experiments.shard s
    WHERE s.sweep_id = $1 AND s.number = ANY ($2)
      AND EXISTS (SELECT 1 FROM experiments.sweep w WHERE w.id = $1 AND w.state = 'running'
                    AND (w.plug_ins IS NULL OR EXISTS (
                        SELECT 1 FROM experiments.node k WHERE k.id = $3 AND k.facts -> 'plugins' @> w.plug_ins)))
      AND ((s.needs_free_bytes IS NULL AND s.needs_cores IS NULL)
           OR EXISTS (SELECT 1 FROM experiments.node k
                WHERE k.id = $3 AND experiments.has_room(k.facts, s.needs_free_bytes, s.needs_cores, NULL))
           OR NOT experiments.silo_with_room(
                s.needs_free_bytes, s.needs_cores, (SELECT w.plug_ins FROM experiments.sweep w WHERE w.id = $1)))
      AND (s.state = 'ready'
           OR ($5 AND s.state = 'leased'
               AND (s.lease_until < clock_timestamp() OR NOT EXISTS (
                    SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.node_id))
               -- Whoever computes it beside its holder goes on alone.
               AND (s.second_node IS NULL OR s.second_until < clock_timestamp() OR NOT EXISTS (
                    SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.second_node))))
    ORDER BY s.number
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE experiments.shard s
SET state = 'leased', epoch = s.epoch + 1, part_epoch = s.epoch + 1, node_id = $3, granted_at = clock_timestamp(), lease_until = clock_timestamp() + $4,
    second_node = NULL, second_until = NULL,
    dead_nodes = CASE WHEN g.died THEN s.dead_nodes || s.node_id ELSE s.dead_nodes END
FROM grantable g, experiments.sweep w
WHERE s.sweep_id = $1 AND s.number = g.number AND w.id = $1
RETURNING s.number, s.epoch, s.first_instance, s.end_instance, s.first_trial, s.trials,
    s.trials_done + s.trials_failed + s.trials_skipped, s.part, s.own, cardinality(s.dead_nodes),
    w.isolated OR EXISTS (
        SELECT 1 FROM experiments.shard o
        WHERE o.sweep_id = $1 AND cardinality(o.dead_nodes) >= 2 AND o.state <> 'done' AND o.number <> s.number)
