UPDATE experiments.sweep SET state = 'done', finished_at = clock_timestamp() WHERE id = $1 AND state = 'running' AND shards_left = 0
