-- Two sweeps may draw the same instance; the answer is the same, so whoever is second keeps the first's.
INSERT INTO experiments.reference (instance_key, loss, max_logit, rms_logit, seconds, gradient, forward, rows)
SELECT * FROM unnest($1::uuid[], $2::float8[], $3::float8[], $4::float8[], $5::float8[], $6::bytea[], $7::bytea[], $8::int[])
ON CONFLICT (instance_key) DO NOTHING
