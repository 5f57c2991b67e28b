-- Whoever held these leases computes for another store. Epochs stay: they only grow.
UPDATE experiments.shard SET state = 'ready', lease_until = NULL WHERE sweep_id = $1 AND state = 'leased'
