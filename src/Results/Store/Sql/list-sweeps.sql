-- Newest first; the last id of a page is where the next begins.
SELECT p.sweep_id, p.name, p.state, p.trials, p.done, p.failed, p.skipped, p.shards, p.shards_done, p.shards_leased::int,
    p.created_at, p.finished_at, w.priority
FROM experiments.sweep_progress p JOIN experiments.sweep w ON w.id = p.sweep_id
WHERE p.sweep_id < $1 AND ($3::text IS NULL OR p.state = $3)
ORDER BY p.sweep_id DESC
LIMIT $2
