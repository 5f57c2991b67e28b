REVOKE ALL ON ALL TABLES IN SCHEMA experiments FROM {writer}, {reader};
GRANT USAGE ON SCHEMA experiments TO {writer}, {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA experiments TO {writer}, {reader};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA experiments TO {writer}, {reader};
GRANT INSERT, UPDATE, DELETE ON experiments.sweep, experiments.shard TO {writer};
GRANT INSERT, DELETE ON experiments.summary, experiments.summary_failure, experiments.trial, experiments.sample, experiments.trial_attempt, experiments.span, experiments.reference
    TO {writer};
GRANT INSERT ON experiments.node TO {writer};
ALTER DEFAULT PRIVILEGES IN SCHEMA experiments GRANT SELECT ON TABLES TO {writer}, {reader};
