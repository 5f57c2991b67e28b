WITH held AS (
    SELECT s.sweep_id, s.number
    FROM unnest($1::bigint[], $2::int[], $3::int[]) AS mine (sweep_id, number, epoch)
    JOIN experiments.shard s USING (sweep_id, number, epoch)
    WHERE s.state = 'leased' AND $4 IN (s.node_id, s.second_node)
    ORDER BY s.sweep_id, s.number
    FOR NO KEY UPDATE OF s
)
-- Where there are two, the other has it alone from then on.
UPDATE experiments.shard s
SET state = CASE WHEN s.second_node IS NULL THEN 'ready' ELSE 'leased' END,
    node_id = CASE WHEN s.node_id = $4 THEN coalesce(s.second_node, s.node_id) ELSE s.node_id END,
    lease_until = CASE WHEN s.node_id = $4 THEN s.second_until ELSE s.lease_until END,
    second_node = NULL, second_until = NULL
FROM held h
WHERE s.sweep_id = h.sweep_id AND s.number = h.number
