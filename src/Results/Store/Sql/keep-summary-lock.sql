-- Null unless the sweep is done and its summary is not kept yet, nor being computed: every silo of a cluster asks when a sweep has ended. The lock
-- keeps a retry out.
SELECT w.id FROM experiments.sweep w
WHERE w.id = $1 AND w.state = 'done' AND NOT EXISTS (
    SELECT 1 FROM experiments.summary s WHERE s.sweep_id = w.id AND s.finished_at = w.finished_at)
FOR NO KEY UPDATE SKIP LOCKED
