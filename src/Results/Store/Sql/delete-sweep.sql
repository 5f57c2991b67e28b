WITH trials AS (DELETE FROM experiments.trial WHERE sweep_id = $1),
    samples AS (DELETE FROM experiments.sample WHERE sweep_id = $1),
    attempts AS (DELETE FROM experiments.trial_attempt WHERE sweep_id = $1),
    spans AS (DELETE FROM experiments.span WHERE sweep_id = $1)
DELETE FROM experiments.sweep WHERE id = $1
