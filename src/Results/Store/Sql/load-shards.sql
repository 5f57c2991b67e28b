SELECT s.number, s.state, s.epoch, s.node_id, s.first_instance, s.end_instance, s.first_trial, s.trials,
    s.trials_done + s.trials_failed + s.trials_skipped, s.predicted_seconds, l.node_id IS NOT NULL OR second.node_id IS NOT NULL, s.needs_free_bytes, s.needs_cores
FROM experiments.shard s LEFT JOIN experiments.live_node l ON l.node_id = s.node_id
    LEFT JOIN experiments.live_node second ON second.node_id = s.second_node AND s.state = 'leased'
WHERE s.sweep_id = $1
ORDER BY s.number
