SELECT t.*
FROM experiments.trials t
WHERE t.sweep_id = $1 AND t.trial = $2 AND t.shard = (
    SELECT s.number FROM experiments.shard s
    WHERE s.sweep_id = $1 AND s.first_trial <= $2 AND s.first_trial + s.trials > $2)
