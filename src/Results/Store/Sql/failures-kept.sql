SELECT f.status, f.kernel, f.trials, f.example_trial, f.example_reason
FROM experiments.summary_failure f JOIN experiments.sweep w ON w.id = f.sweep_id AND w.finished_at = f.finished_at
WHERE f.sweep_id = $1 AND w.state = 'done'
ORDER BY f.trials DESC, f.example_trial
LIMIT 20
