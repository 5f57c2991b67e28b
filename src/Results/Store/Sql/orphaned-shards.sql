-- What a grant would take from its holder: the same condition as there.
SELECT s.number
FROM experiments.shard s
WHERE s.sweep_id = $1 AND s.state = 'leased'
  AND (s.lease_until < clock_timestamp() OR NOT EXISTS (
       SELECT 1 FROM experiments.live_node l WHERE l.node_id = s.node_id))
ORDER BY s.number
