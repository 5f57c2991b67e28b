-- What a grant would take from its holder: the same condition as there.
SELECT s.number
FROM experiments.shard s
WHERE s.sweep_id = $1 AND s.state = 'leased'
  AND (s.lease_until < clock_timestamp() OR NOT EXISTS (
       SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.node_id))
  AND (s.second_node IS NULL OR s.second_until < clock_timestamp() OR NOT EXISTS (
       SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.second_node))
ORDER BY s.number
