SELECT (k.facts ->> 'memory_free_bytes')::float8 FROM experiments.live_node l JOIN experiments.node k ON k.id = l.node_id
WHERE NOT (k.host = $1 AND k.process_id = $2) AND k.facts @> '{"attends": true}' AND k.facts ? 'memory_free_bytes'
