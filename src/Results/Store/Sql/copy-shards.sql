COPY experiments.shard (sweep_id, number, first_instance, end_instance, first_trial, trials, predicted_seconds)
FROM STDIN (FORMAT BINARY)
