UPDATE experiments.sweep SET state = 'cancelled', finished_at = clock_timestamp() WHERE id = $1 AND state = 'running'
