-- Nothing where no other silo would take it: then it is run where it is, and what does not fit is skipped.
UPDATE experiments.shard s
SET state = CASE WHEN s.second_node IS NULL THEN 'ready' ELSE 'leased' END,
    node_id = CASE WHEN s.node_id = $4 THEN coalesce(s.second_node, s.node_id) ELSE s.node_id END,
    lease_until = CASE WHEN s.node_id = $4 THEN s.second_until ELSE s.lease_until END,
    second_node = NULL, second_until = NULL, needs_free_bytes = greatest(s.needs_free_bytes, nullif($5, 0)),
    needs_cores = greatest(s.needs_cores, nullif($6, 0))
FROM experiments.sweep w
WHERE s.sweep_id = $1 AND s.number = $2 AND s.epoch = $3 AND s.state = 'leased' AND $4 IN (s.node_id, s.second_node) AND w.id = $1
  -- Where there are two holders, the other has it alone from then on.
  AND (s.second_node IS NOT NULL OR experiments.silo_with_room(
      greatest(s.needs_free_bytes, nullif($5, 0)), greatest(s.needs_cores, nullif($6, 0)), w.plug_ins))
