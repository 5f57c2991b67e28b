-- A lane waits for this before every shard, and no more than the server's crash can undo it: so nothing waits for the disk.
WITH soon AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE experiments.shard s SET begun_epoch = s.epoch
FROM soon
WHERE s.sweep_id = $1 AND s.number = $2 AND s.epoch = $3 AND s.state = 'leased' AND s.node_id = $4
