SELECT trial FROM experiments.trial WHERE sweep_id = $1 AND shard = $2 AND trial = ANY ($3) LIMIT 1
