INSERT INTO experiments.sweep_file (sweep_id, content) VALUES ($1, $2) ON CONFLICT DO NOTHING
