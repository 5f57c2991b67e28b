-- The first thing that does not add up, or null: a sweep must not say that it is done with trials missing, nor hold one twice.
WITH counted AS (
    SELECT shard, count(*) AS rows, count(DISTINCT trial) AS trials, min(trial) AS first, max(trial) AS last,
        count(*) FILTER (WHERE status = 'done') AS done, count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'skipped') AS skipped
    FROM experiments.trial WHERE sweep_id = $1 GROUP BY shard
), total AS (
    SELECT count(*) AS shards, coalesce(sum(trials), 0) AS trials, count(*) FILTER (WHERE state <> 'done') AS shards_left,
        coalesce(sum(trials_done), 0) AS done, coalesce(sum(trials_failed), 0) AS failed, coalesce(sum(trials_skipped), 0) AS skipped
    FROM experiments.shard WHERE sweep_id = $1
)
SELECT fault FROM (
    SELECT 0 AS place, format('the sweep has %s trials in %s shards, %s of them to run, and says %s in %s, %s to run',
        t.trials, t.shards, t.shards_left, w.trials, w.shards, w.shards_left) AS fault
    FROM experiments.sweep w, total t
    WHERE w.id = $1 AND (w.trials, w.shards, w.shards_left) IS DISTINCT FROM (t.trials, t.shards, t.shards_left)
    UNION ALL
    SELECT 1, format('the sweep counts %s done, %s failed and %s skipped trials, and its shards %s, %s and %s',
        w.trials_done, w.trials_failed, w.trials_skipped, t.done, t.failed, t.skipped)
    FROM experiments.sweep w, total t
    WHERE w.id = $1 AND (w.trials_done, w.trials_failed, w.trials_skipped) IS DISTINCT FROM (t.done, t.failed, t.skipped)
    UNION ALL
    SELECT 2, format('the sweep says that it is done, with %s shards to run', w.shards_left)
    FROM experiments.sweep w WHERE w.id = $1 AND w.state = 'done' AND w.shards_left > 0
    UNION ALL
    (SELECT 3, format('shard %s counts %s done, %s failed and %s skipped trials and has rows of %s, %s and %s',
        coalesce(s.number, c.shard), s.trials_done, s.trials_failed, s.trials_skipped,
        coalesce(c.done, 0), coalesce(c.failed, 0), coalesce(c.skipped, 0))
    FROM (SELECT * FROM experiments.shard WHERE sweep_id = $1) s FULL JOIN counted c ON c.shard = s.number
    WHERE (s.trials_done, s.trials_failed, s.trials_skipped, s.trials_done + s.trials_failed + s.trials_skipped) IS DISTINCT FROM
            (coalesce(c.done, 0), coalesce(c.failed, 0), coalesce(c.skipped, 0), coalesce(c.rows, 0))
       OR c.trials <> c.rows OR c.first < s.first_trial OR c.last >= s.first_trial + s.trials
    ORDER BY 2 LIMIT 1)
) faults
ORDER BY place LIMIT 1
