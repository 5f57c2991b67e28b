-- A sweep may be extended: its older shards go on meaning what they meant, by the specification that they were made with.

ALTER TABLE experiments.sweep ADD COLUMN former_specifications text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN experiments.sweep.specification IS 'The frozen, canonical spec that silos run: the newest, which has every trial of the former ones.';
COMMENT ON COLUMN experiments.sweep.former_specifications IS 'Those before it, oldest first: a shard''s part counts through them.';

ALTER TABLE experiments.shard ADD COLUMN part int NOT NULL DEFAULT 0, ADD COLUMN own int[], ADD COLUMN part_epoch int;
COMMENT ON COLUMN experiments.shard.part IS 'Which of the sweep''s specifications its instances are counted in: 0 is the first.';
COMMENT ON COLUMN experiments.shard.own IS
    'Which of its instances'' trials are its own, by their place from 0, ascending: the others were there before. Null where all are.';

-- A silo of before would read the instances by the wrong specification, and store trials under others' numbers: it gets no lease.
ALTER TABLE experiments.shard ADD CONSTRAINT shard_part_is_known CHECK (part = 0 OR state <> 'leased' OR part_epoch = epoch);
COMMENT ON COLUMN experiments.shard.part_epoch IS 'The lease whose holder knows of parts.';
COMMENT ON COLUMN experiments.trial.instance IS 'Number of the instance within the product of axes of its shard''s specification. instance_key names it for good.';
