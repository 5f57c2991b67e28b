SELECT (k.facts -> 'plugins')::text FROM experiments.live_node l JOIN experiments.node k ON k.id = l.node_id
WHERE NOT (k.host = $1 AND k.process_id = $2)
