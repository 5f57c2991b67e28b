-- A sweep by its number, the last one, or the newest of a name.
SELECT id FROM experiments.sweep
WHERE CASE WHEN $1 = 'last' THEN true WHEN $1 ~ '^[0-9]{1,18}$' THEN id = $1::bigint ELSE name = $1 END
ORDER BY id DESC LIMIT 1
