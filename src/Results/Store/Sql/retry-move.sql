WITH moved AS (
    DELETE FROM experiments.trial t
    WHERE t.sweep_id = $1 AND t.shard = ANY ($2) AND (($3 AND t.status = 'failed') OR ($4 AND t.status = 'skipped'))
    RETURNING t.*
), timings AS (
    DELETE FROM experiments.sample s USING moved m
    WHERE s.sweep_id = $1 AND s.shard = m.shard AND s.trial = m.trial
    RETURNING s.trial, s.seconds
), kept AS (
    INSERT INTO experiments.trial_attempt
    SELECT m.*, clock_timestamp(), t.seconds FROM moved m LEFT JOIN timings t ON t.trial = m.trial
), tally AS (
    SELECT shard, count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE status = 'skipped') AS skipped
    FROM moved GROUP BY shard
), reopened AS (
    UPDATE experiments.shard s
    SET state = 'ready', trials_failed = s.trials_failed - t.failed, trials_skipped = s.trials_skipped - t.skipped
    FROM tally t, experiments.shard old
    WHERE s.sweep_id = $1 AND s.number = t.shard AND old.sweep_id = s.sweep_id AND old.number = s.number
    RETURNING t.failed, t.skipped, (old.state = 'done')::int AS was_done
), total AS (
    SELECT coalesce(sum(failed), 0)::bigint AS failed, coalesce(sum(skipped), 0)::bigint AS skipped,
        coalesce(sum(was_done), 0)::int AS shards
    FROM reopened
), counted AS (
    UPDATE experiments.sweep w
    SET trials_failed = w.trials_failed - t.failed, trials_skipped = w.trials_skipped - t.skipped,
        shards_left = w.shards_left + t.shards,
        state = CASE WHEN w.state = 'done' AND t.failed + t.skipped > 0 THEN 'running' ELSE w.state END,
        finished_at = CASE WHEN w.state = 'done' AND t.failed + t.skipped > 0 THEN NULL ELSE w.finished_at END
    FROM total t
    WHERE w.id = $1
)
SELECT failed + skipped FROM total
