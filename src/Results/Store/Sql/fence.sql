-- The row lock serialises a zombie and its successor; no clock is involved.
UPDATE experiments.shard
SET state = 'done', committed_epoch = epoch, committed_node = $7, committed_at = clock_timestamp(), lease_until = NULL,
    second_node = NULL, second_until = NULL,
    trials_done = trials_done + $4, trials_failed = trials_failed + $5, trials_skipped = trials_skipped + $6,
    -- Of a shard that was stored before, in part or whole, what it brought then counts as well: a node has counted what it runs again already.
    seen_before = CASE WHEN (seen_before IS NULL AND trials_done + trials_failed + trials_skipped = 0) OR $8 < seen_before
        THEN nullif($8, -1) ELSE seen_before END
WHERE sweep_id = $1 AND number = $2 AND epoch = $3 AND state = 'leased'
  AND trials_done + trials_failed + trials_skipped + $4 + $5 + $6 = trials
RETURNING trials - $4 - $5 - $6
