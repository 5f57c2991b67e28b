REVOKE ALL ON ALL TABLES IN SCHEMA experiments FROM {writer}, {reader};
GRANT USAGE ON SCHEMA experiments TO {writer}, {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA experiments TO {writer}, {reader};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA experiments TO {writer}, {reader};
GRANT INSERT, UPDATE, DELETE ON experiments.sweep, experiments.shard TO {writer};
GRANT INSERT, DELETE ON experiments.summary, experiments.summary_failure, experiments.trial, experiments.sample, experiments.trial_attempt, experiments.span, experiments.reference
    TO {writer};
GRANT INSERT ON experiments.node TO {writer};
GRANT INSERT, DELETE ON experiments.file, experiments.file_piece, experiments.sweep_file TO {writer};
-- A row is locked by those alone who may update it.
GRANT UPDATE (stored_at) ON experiments.file TO {writer};
-- Results are for whoever may look, the files that they came from for those who compute with them.
REVOKE ALL ON experiments.file_piece FROM {reader};
ALTER DEFAULT PRIVILEGES IN SCHEMA experiments GRANT SELECT ON TABLES TO {writer}, {reader};
