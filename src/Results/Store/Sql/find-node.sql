SELECT name, host, process_id, facts::text FROM experiments.node WHERE id = $1
