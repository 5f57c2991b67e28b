-- Who computes a sweep as far as the store can know, and since when nobody has: a lease of a process that is gone or hangs is nobody's.
SELECT h.nodes, h.shards,
    (SELECT count(*) FROM experiments.live_node l JOIN experiments.node k ON k.id = l.node_id WHERE k.facts @> '{"attends": true}'),
    (SELECT max(greatest(granted_at, committed_at)) FROM experiments.shard WHERE sweep_id = $1)
FROM (
    SELECT count(DISTINCT node) AS nodes, count(DISTINCT number) AS shards
    FROM experiments.shard s, LATERAL (VALUES (s.node_id, s.lease_until), (s.second_node, s.second_until)) AS lease (node, until)
        JOIN experiments.live_node l ON l.node_id = lease.node
    WHERE s.sweep_id = $1 AND s.state = 'leased' AND lease.until > clock_timestamp()
) h
WHERE EXISTS (SELECT 1 FROM experiments.sweep WHERE id = $1 AND state = 'running')
