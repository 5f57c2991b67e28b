-- Commits wait for this, and this for them: both change the sweep's counters.
SELECT specification_hash, trials, shards FROM experiments.sweep WHERE id = $1 FOR NO KEY UPDATE
