-- One cheap look at every start: what was applied, and who is there. It fails with 42P01 or 3F000 on a database without our schema.
SELECT
    (SELECT array_agg(scriptname::text ORDER BY scriptname) FROM experiments.migration),
    pg_has_role(current_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'experiments'), 'USAGE'),
    EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = $1 AND has_schema_privilege(r.oid, 'experiments', 'USAGE')),
    EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = $2 AND has_schema_privilege(r.oid, 'experiments', 'USAGE'))
