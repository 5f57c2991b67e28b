-- Who is connected but the keeper itself, and how many sessions there ever were, since a short command may fall between two looks.
SELECT
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
    (SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database)
