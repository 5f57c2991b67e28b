-- Rows that another statement holds are left to it: two grants at once never wait for each other, nor lock each other dead.
WITH grantable AS (
    SELECT s.number
    FROM experiments.shard s
    WHERE s.sweep_id = $1 AND s.number = ANY ($2)
      AND EXISTS (SELECT 1 FROM experiments.sweep w WHERE w.id = $1 AND w.state = 'running'
                    AND (w.plug_ins IS NULL OR EXISTS (
                        SELECT 1 FROM experiments.node k WHERE k.id = $3 AND k.facts -> 'plugins' @> w.plug_ins)))
      AND (s.state = 'ready'
           OR ($5 AND s.state = 'leased'
               AND (s.lease_until < clock_timestamp() OR NOT EXISTS (
                    SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.node_id))))
    ORDER BY s.number
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE experiments.shard s
SET state = 'leased', epoch = s.epoch + 1, part_epoch = s.epoch + 1, node_id = $3, granted_at = clock_timestamp(), lease_until = clock_timestamp() + $4
FROM grantable g
WHERE s.sweep_id = $1 AND s.number = g.number
RETURNING s.number, s.epoch, s.first_instance, s.end_instance, s.first_trial, s.trials,
    s.trials_done + s.trials_failed + s.trials_skipped, s.part, s.own
