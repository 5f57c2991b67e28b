INSERT INTO experiments.shard (sweep_id, number, part, first_instance, end_instance, first_trial, trials, predicted_seconds, own)
SELECT w.id, s.number, cardinality(w.former_specifications), s.first_instance, s.end_instance, s.first_trial, s.trials, s.seconds, s.own::int[]
FROM experiments.sweep w, unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::int[], $7::float8[], $8::text[])
    AS s (number, first_instance, end_instance, first_trial, trials, seconds, own)
WHERE w.id = $1
