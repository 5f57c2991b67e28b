-- Nothing where no other silo would take it: then it is run where it is, and what does not fit is skipped.
UPDATE experiments.shard s
SET state = 'ready', lease_until = NULL, needs_free_bytes = greatest(s.needs_free_bytes, nullif($5, 0)),
    needs_cores = greatest(s.needs_cores, nullif($6, 0))
FROM experiments.sweep w
WHERE s.sweep_id = $1 AND s.number = $2 AND s.epoch = $3 AND s.state = 'leased' AND s.node_id = $4 AND w.id = $1
  AND experiments.silo_with_room(
      greatest(s.needs_free_bytes, nullif($5, 0)), greatest(s.needs_cores, nullif($6, 0)), w.plug_ins)
