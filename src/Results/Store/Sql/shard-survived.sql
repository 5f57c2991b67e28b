UPDATE experiments.shard SET dead_nodes = array_remove(dead_nodes, $3)
WHERE sweep_id = $1 AND number = $2 AND $3 = ANY (dead_nodes)
