WITH held AS (
    SELECT s.sweep_id, s.number
    FROM unnest($1::bigint[], $2::int[], $3::int[]) AS mine (sweep_id, number, epoch)
    JOIN experiments.shard s USING (sweep_id, number, epoch)
    WHERE s.state = 'leased' AND s.node_id = $4
    ORDER BY s.sweep_id, s.number
    FOR NO KEY UPDATE OF s
)
UPDATE experiments.shard s SET state = 'ready', lease_until = NULL
FROM held h
WHERE s.sweep_id = h.sweep_id AND s.number = h.number
