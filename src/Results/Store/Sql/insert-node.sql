INSERT INTO experiments.node (name, host, process_id, facts) VALUES ($1, $2, $3, $4::jsonb) RETURNING id
