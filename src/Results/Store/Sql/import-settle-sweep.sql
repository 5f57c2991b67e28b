-- Silos take up whatever runs, and nobody asked them to here.
UPDATE experiments.sweep SET state = 'cancelled', finished_at = clock_timestamp() WHERE id = $1 AND state = 'running'
