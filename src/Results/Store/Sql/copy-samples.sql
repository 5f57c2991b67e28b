COPY experiments.sample (sweep_id, trial, shard, seconds) FROM STDIN (FORMAT BINARY)
