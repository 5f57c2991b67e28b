-- Whoever held these leases computes for another store, and whoever died there is no node of this one. Epochs stay: they only grow.
UPDATE experiments.shard
SET state = CASE WHEN state = 'leased' THEN 'ready' ELSE state END, lease_until = NULL, dead_nodes = '{}', second_node = NULL,
    second_until = NULL, committed_node = NULL
WHERE sweep_id = $1 AND (state = 'leased' OR dead_nodes <> '{}' OR committed_node IS NOT NULL)
