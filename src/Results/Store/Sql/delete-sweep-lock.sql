SELECT 1 FROM experiments.shard WHERE sweep_id = $1 ORDER BY number FOR UPDATE
