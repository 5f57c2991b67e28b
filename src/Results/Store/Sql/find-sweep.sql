SELECT id, name, question, seed, state, specification::text, source, instances, trials, shards, created_at, finished_at, traceparent, former_specifications,
    specification_hash, priority
FROM experiments.sweep WHERE id = $1
