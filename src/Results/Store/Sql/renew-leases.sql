WITH held AS (
    SELECT s.sweep_id, s.number
    FROM unnest($1::bigint[], $2::int[], $3::int[]) AS mine (sweep_id, number, epoch)
    JOIN experiments.shard s USING (sweep_id, number, epoch)
    JOIN experiments.sweep w ON w.id = s.sweep_id
    WHERE s.state = 'leased' AND $4 IN (s.node_id, s.second_node) AND w.state = 'running'
    ORDER BY s.sweep_id, s.number
    FOR NO KEY UPDATE OF s
)
UPDATE experiments.shard s
SET lease_until = CASE WHEN s.node_id = $4 THEN clock_timestamp() + $5 ELSE s.lease_until END,
    second_until = CASE WHEN s.second_node = $4 THEN clock_timestamp() + $5 ELSE s.second_until END
FROM held h
WHERE s.sweep_id = h.sweep_id AND s.number = h.number
RETURNING s.sweep_id, s.number, s.epoch
