-- The sweep's row is locked from here to the end of the transaction, so of two last commits the later sees the earlier.
UPDATE experiments.sweep
SET trials_done = trials_done + $2, trials_failed = trials_failed + $3, trials_skipped = trials_skipped + $4,
    shards_left = shards_left - 1,
    state = CASE WHEN shards_left = 1 AND state = 'running' THEN 'done' ELSE state END,
    finished_at = CASE WHEN shards_left = 1 AND state = 'running' THEN clock_timestamp() ELSE finished_at END
WHERE id = $1
