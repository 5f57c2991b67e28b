SELECT p.sweep_id, p.name, p.state, p.trials, p.done, p.failed, p.skipped, p.shards, p.shards_done, p.shards_leased::int,
    p.created_at, p.finished_at, w.priority, w.question, w.seed, w.instances, w.specification_hash, w.git_commit, split_part(w.traceparent, '-', 2),
    coalesce(p.finished_at > now() - interval '1 minute', false)
FROM experiments.sweep_progress p JOIN experiments.sweep w ON w.id = p.sweep_id
WHERE p.sweep_id = $1
