SELECT number, first_instance, end_instance, first_trial, part, own FROM experiments.shard
WHERE sweep_id = $1 AND first_trial <= $2 AND first_trial + trials > $2
