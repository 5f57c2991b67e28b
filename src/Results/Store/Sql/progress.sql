SELECT p.state, p.trials, p.done, p.failed, p.skipped, p.shards, p.shards_done, p.shards_leased::int, w.priority
FROM experiments.sweep_progress p JOIN experiments.sweep w ON w.id = p.sweep_id
WHERE p.sweep_id = $1
