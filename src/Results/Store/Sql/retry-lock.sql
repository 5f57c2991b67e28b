-- First the locks, then a fresh snapshot: a commit that came between is then seen whole.
SELECT number FROM experiments.shard
WHERE sweep_id = $1 AND state <> 'leased' AND (($2 AND trials_failed > 0) OR ($3 AND trials_skipped > 0))
ORDER BY number
FOR NO KEY UPDATE
