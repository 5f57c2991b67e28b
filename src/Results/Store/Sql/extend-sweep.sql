UPDATE experiments.sweep
SET former_specifications = array_append(former_specifications, specification::text), specification = $2::json, specification_hash = $3,
    source = $4, instances = $5, trials = trials + $6, shards = shards + $7, shards_left = shards_left + $7,
    state = 'running', finished_at = NULL
WHERE id = $1
