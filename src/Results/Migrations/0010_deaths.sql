-- A trial that kills its process would kill one silo after the other: who died with a shard is kept with it, and after two it is computed
-- in a process of its own.

ALTER TABLE experiments.shard ADD COLUMN begun_epoch int, ADD COLUMN dead_nodes int[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN experiments.shard.begun_epoch IS 'The last lease under which it was begun: a holder that dies before that has not died of it.';
COMMENT ON COLUMN experiments.shard.dead_nodes IS
    'Nodes whose process ended while they computed it, in order. One that turns out to live takes itself out.';
-- Nearly always empty, and looked at by every grant.
CREATE INDEX shard_deadly ON experiments.shard (sweep_id) WHERE cardinality(dead_nodes) >= 2;

ALTER TABLE experiments.sweep ADD COLUMN isolated bool NOT NULL DEFAULT false;
COMMENT ON COLUMN experiments.sweep.isolated IS
    'One of its trials is known to kill its process: all its shards are computed in processes of their own from then on.';
