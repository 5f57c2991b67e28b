-- A shard that did not fit the silo that had leased it goes only to silos that it fits, as long as there are any.

ALTER TABLE experiments.shard ADD COLUMN needs_free_bytes float8, ADD COLUMN needs_cores int;
COMMENT ON COLUMN experiments.shard.needs_free_bytes IS
    'Bytes that a silo must have had free at its start for a trial that was found too large for one that had less; null where none was.';
COMMENT ON COLUMN experiments.shard.needs_cores IS 'Likewise the cores that threads can be pinned to.';

CREATE FUNCTION experiments.has_room(facts jsonb, free_bytes float8, cores int, plug_ins jsonb) RETURNS bool
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(free_bytes <= (facts ->> 'memory_free_bytes')::float8, free_bytes IS NULL)
        AND coalesce(cores <= jsonb_array_length(facts -> 'pinning_cores'), cores IS NULL)
        AND coalesce(facts -> 'plugins' @> plug_ins, plug_ins IS NULL)
$$;
COMMENT ON FUNCTION experiments.has_room IS 'Whether a node of these facts can run what needs so much. What a node does not tell it does not have.';

CREATE FUNCTION experiments.silo_with_room(free_bytes float8, cores int, plug_ins jsonb) RETURNS bool
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1 FROM experiments.live_node l JOIN experiments.node k ON k.id = l.node_id
        WHERE k.facts @> '{"attends": true}' AND experiments.has_room(k.facts, free_bytes, cores, plug_ins))
$$;
COMMENT ON FUNCTION experiments.silo_with_room IS 'Whether a silo is alive that takes up every sweep and has room for what needs so much.';
