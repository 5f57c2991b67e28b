SELECT state, trials, done, failed, skipped, shards, shards_done, shards_leased::int FROM experiments.sweep_progress WHERE sweep_id = $1
