-- Shards in no order that means anything, the same each time, until they hold so many stored trials; of those with failures alone, where asked.
SELECT number, stored FROM (
    SELECT number, trials_done + trials_failed + trials_skipped AS stored,
        sum(trials_done + trials_failed + trials_skipped) OVER (ORDER BY hashint4(number), number) AS so_far
    FROM experiments.shard
    WHERE sweep_id = $1 AND trials_done + trials_failed + trials_skipped > 0 AND (NOT $3 OR trials_failed + trials_skipped > 0)
) ordered
WHERE so_far - stored < $2
