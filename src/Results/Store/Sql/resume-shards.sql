-- Whoever still computes one of these is fenced: only a leased shard takes a commit.
WITH held AS (
    SELECT s.number, s.begun_epoch = s.epoch AND NOT EXISTS (SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.node_id) AS died
    FROM experiments.shard s JOIN experiments.sweep w ON w.id = s.sweep_id
    WHERE s.sweep_id = $1 AND s.state = 'leased' AND w.state = 'cancelled'
    ORDER BY s.number
    FOR NO KEY UPDATE OF s
)
UPDATE experiments.shard s
SET state = 'ready', lease_until = NULL, dead_nodes = CASE WHEN h.died THEN s.dead_nodes || s.node_id ELSE s.dead_nodes END
FROM held h WHERE s.sweep_id = $1 AND s.number = h.number
