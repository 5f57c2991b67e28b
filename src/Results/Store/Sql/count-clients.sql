-- Who is connected but the keeper, and how many sessions there ever were, since a short command may fall between two looks.
SELECT
    (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'experiments keeper'),
    (SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database)
