-- A sample of a long sweep's shards leaves no configuration out: each commit says how new to its node was what the shard holds.

ALTER TABLE experiments.shard ADD COLUMN seen_before smallint;
COMMENT ON COLUMN experiments.shard.seen_before IS
    'In how many shards the node that stored it had stored the rarest of its configurations before, 3 where each was in enough; null where nobody counted.';
