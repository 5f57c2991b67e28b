UPDATE experiments.sweep
SET state = CASE WHEN shards_left = 0 THEN 'done' ELSE 'running' END,
    finished_at = CASE WHEN shards_left = 0 THEN finished_at END
WHERE id = $1 AND state = 'cancelled'
