DELETE FROM experiments.summary_failure WHERE sweep_id = $1
