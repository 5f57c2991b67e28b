-- A process that another archive brought already is the same row.
WITH known AS (
    SELECT id FROM experiments.node
    WHERE process_id = $1::text::int AND started_at = $2::text::timestamptz AND name = $3 AND host = $4 AND facts = $5::text::jsonb
    ORDER BY id LIMIT 1
), made AS (
    INSERT INTO experiments.node (process_id, started_at, name, host, facts)
    SELECT $1::text::int, $2::text::timestamptz, $3, $4, $5::text::jsonb WHERE NOT EXISTS (SELECT 1 FROM known)
    RETURNING id
)
SELECT id FROM known UNION ALL SELECT id FROM made
