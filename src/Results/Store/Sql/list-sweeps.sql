-- Newest first; the last id of a page is where the next begins.
SELECT sweep_id, name, state, trials, done, failed, skipped, shards, shards_done, shards_leased::int, created_at, finished_at
FROM experiments.sweep_progress
WHERE sweep_id < $1 AND ($3::text IS NULL OR state = $3)
ORDER BY sweep_id DESC
LIMIT $2
