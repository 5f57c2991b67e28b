-- Of stored shards, first those that brought a configuration their node had not stored before, then the second and the third of each, so that
-- no rare one is left out; then shards in no order that means anything, the same each time, until they hold so many stored trials. The first
-- ones may be twice as many, and where they are more than that, or were not counted, the sample may lack some: the last column says so.
-- Of those with failures alone, where asked.
WITH stored AS (
    SELECT number, seen_before, trials_done + trials_failed + trials_skipped AS trials,
        sum(trials_done + trials_failed + trials_skipped) OVER (ORDER BY coalesce(seen_before, 3), hashint4(number), number) AS so_far
    FROM experiments.shard
    WHERE sweep_id = $1 AND trials_done + trials_failed + trials_skipped > 0 AND (NOT $3 OR trials_failed + trials_skipped > 0)
)
SELECT number, trials, (SELECT bool_and(seen_before IS NOT NULL AND (seen_before > 0 OR so_far - trials < 2 * $2)) FROM stored)
FROM stored
WHERE so_far - trials < CASE WHEN seen_before = 0 THEN 2 * $2 ELSE $2 END
