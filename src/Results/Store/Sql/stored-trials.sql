SELECT trial FROM experiments.trial WHERE sweep_id = $1 AND shard = $2
