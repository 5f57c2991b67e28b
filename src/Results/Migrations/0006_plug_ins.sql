-- Trials go only to nodes that have the very plug-ins which the sweep was made with: what it needs, beside what node.facts offers.

ALTER TABLE experiments.sweep ADD COLUMN plug_ins jsonb GENERATED ALWAYS AS ((specification -> 'plugins')::jsonb) STORED;

COMMENT ON COLUMN experiments.sweep.plug_ins IS
    'The plug-ins that its shards need, each with name, version and sha256; null when it needs none. A node may run them whose facts hold all of it.';
