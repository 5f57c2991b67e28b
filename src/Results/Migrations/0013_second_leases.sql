-- A shard that takes much longer than others did may be leased a second time, under the same epoch: either holder may commit, once.

ALTER TABLE experiments.shard
    ADD COLUMN second_node int, ADD COLUMN second_until timestamptz, ADD COLUMN committed_node int;
COMMENT ON COLUMN experiments.shard.second_node IS 'Who computes it beside its holder, under the holder''s epoch.';
COMMENT ON COLUMN experiments.shard.second_until IS 'Until when, unless renewed.';
COMMENT ON COLUMN experiments.shard.committed_node IS 'Which of the two stored it, by committed_epoch.';
