DELETE FROM experiments.summary WHERE sweep_id = $1
