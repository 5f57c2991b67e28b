SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user)
    OR has_table_privilege('experiments.trial', 'INSERT') OR has_table_privilege('experiments.trial', 'DELETE')
    OR has_schema_privilege('experiments', 'CREATE'), session_user::text
