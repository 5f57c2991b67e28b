-- A sweep without trials is done before it began.
UPDATE experiments.sweep SET shards = $2, shards_left = $2,
    state = CASE WHEN $2 = 0 THEN 'done' ELSE 'running' END,
    finished_at = CASE WHEN $2 = 0 THEN clock_timestamp() END
WHERE id = $1
