SELECT * FROM experiments.trials WHERE sweep_id = $1 ORDER BY shard, trial
