-- Whoever still computes one of these is fenced: only a leased shard takes a commit.
WITH held AS (
    SELECT s.number FROM experiments.shard s JOIN experiments.sweep w ON w.id = s.sweep_id
    WHERE s.sweep_id = $1 AND s.state = 'leased' AND w.state = 'cancelled'
    ORDER BY s.number
    FOR NO KEY UPDATE OF s
)
UPDATE experiments.shard s SET state = 'ready', lease_until = NULL FROM held h WHERE s.sweep_id = $1 AND s.number = h.number
