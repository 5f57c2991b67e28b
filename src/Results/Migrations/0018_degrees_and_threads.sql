-- What a kernel chose by its tolerance, what it predicted, and what further threads bring, are in the tables too.

CREATE OR REPLACE VIEW experiments.configured AS
SELECT sweep_id, shard, trial, family, kernel, precision, threads, basis, form, degree, centred, radius,
    -- Most sweeps name none of the four: no function is called then.
    CASE WHEN parameters ?| ARRAY['mask', 'scale', 'heads', 'batch']
        THEN experiments.settings_of_call(kernel_parameters, parameters) ELSE kernel_parameters END AS kernel_parameters,
    n, d, bound, status, rank, reference_rows, gradient_relative_error, gradient_absolute_error, gradient_error_standard_error,
    predicted_exp_error, theorem_slack, seconds_median, speedup_over_exact, fitted_degree, instance, instance_key,
    project_seconds, moments_seconds, rows_seconds, reduce_seconds
FROM experiments.trial;

CREATE OR REPLACE VIEW experiments.error_by_degree AS
SELECT sweep_id, family, kernel, precision, basis, form, centred, radius, kernel_parameters, n, d, bound, coalesce(degree, fitted_degree) AS degree,
    count(*) AS trials, count(*) FILTER (WHERE status = 'failed') AS failed, max(rank) AS rank,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY gradient_relative_error) AS gradient_relative_error_median,
    max(gradient_relative_error) AS gradient_relative_error_max,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY predicted_exp_error) AS predicted_exp_error_median,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY theorem_slack) AS theorem_slack_median,
    count(*) FILTER (WHERE status = 'done' AND reference_rows IS NOT NULL) AS estimated,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY experiments.relative_standard_error(
        gradient_error_standard_error, gradient_absolute_error, gradient_relative_error)) AS gradient_relative_standard_error_median
FROM experiments.configured
WHERE coalesce(degree, fitted_degree) IS NOT NULL
GROUP BY sweep_id, family, kernel, precision, basis, form, centred, radius, kernel_parameters, n, d, bound, coalesce(degree, fitted_degree);
COMMENT ON VIEW experiments.error_by_degree IS
    'How the gradient''s relative error falls as the degree grows; a degree that a kernel chose by its tolerance is in it, with degree auto in kernel_parameters.';

-- By the instance's key: an extension numbers its instances anew, and then two of one number differ.
-- Windows, not joins of trials with trials: of a sweep that has only just ended the planner has no statistics, and would nest its loops.
CREATE VIEW experiments.paired_threads AS
SELECT sweep_id, shard, trial, instance, family, kernel, precision, threads, fewest_threads, basis, form, degree, centred, radius, kernel_parameters,
    n, d, bound, speedup
FROM (
    SELECT *, first_value(threads) OVER same_call AS fewest_threads,
        first_value(seconds_median) OVER same_call / nullif(seconds_median, 0) AS speedup
    FROM experiments.configured WHERE status = 'done'
    WINDOW same_call AS (
        PARTITION BY sweep_id, shard, instance_key, kernel, precision, basis, form, degree, centred, radius, kernel_parameters ORDER BY threads, trial)
) timed
WHERE threads > fewest_threads;
COMMENT ON VIEW experiments.paired_threads IS
    'How many times faster a trial was than the same call on the same inputs with the fewest threads of which it was done.';

CREATE VIEW experiments.thread_speedup AS
SELECT sweep_id, family, kernel, precision, threads, fewest_threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound,
    instances, speedup_median,
    sorted[experiments.interval_rank(instances)] AS speedup_low,
    sorted[instances::int - experiments.interval_rank(instances) + 1] AS speedup_high
FROM (
    SELECT sweep_id, family, kernel, precision, threads, fewest_threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound,
        count(*) AS instances,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY speedup) AS speedup_median,
        array_agg(speedup ORDER BY speedup) AS sorted
    FROM experiments.paired_threads
    WHERE speedup IS NOT NULL
    GROUP BY sweep_id, family, kernel, precision, threads, fewest_threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound
) grouped;
COMMENT ON VIEW experiments.thread_speedup IS
    'Median speed-up over the fewest threads, same call, same inputs, and its 95 % interval by order statistics (null below 6 instances).';

-- Phases are told of by one call, which is not timed and may be slower than those that are: shares are of that call.
CREATE OR REPLACE VIEW experiments.phase_time AS
SELECT sweep_id, family, kernel, precision, threads, basis, form, degree, n, d, phase,
    count(*) AS trials,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds_median,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / nullif(
        coalesce(project_seconds, 0) + coalesce(moments_seconds, 0) + coalesce(rows_seconds, 0) + coalesce(reduce_seconds, 0), 0)) AS share_median,
    centred, radius, kernel_parameters
FROM experiments.configured CROSS JOIN LATERAL (VALUES
    ('project', project_seconds), ('moments', moments_seconds), ('rows', rows_seconds), ('reduce', reduce_seconds)
) AS p (phase, seconds)
WHERE status = 'done' AND seconds IS NOT NULL
GROUP BY sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, phase;
COMMENT ON VIEW experiments.phase_time IS
    'Where a call''s time goes, by phase of the kernel: of the one call of a trial that is looked into, before those that are timed.';

CREATE OR REPLACE VIEW experiments.sweep_progress AS
SELECT w.id AS sweep_id, w.name, w.state, w.trials, w.trials_done AS done, w.trials_failed AS failed, w.trials_skipped AS skipped,
    w.shards, w.shards - w.shards_left AS shards_done,
    CASE WHEN w.state = 'done' THEN 0 ELSE (SELECT count(*) FROM experiments.shard s WHERE s.sweep_id = w.id AND s.state = 'leased') END
        AS shards_leased,
    w.created_at, w.finished_at, extract(epoch FROM coalesce(w.finished_at, now()) - w.created_at)::float8 AS age_seconds, w.priority
FROM experiments.sweep w;

ALTER TABLE experiments.summary
    ADD COLUMN fitted_degree_min int, ADD COLUMN fitted_degree_max int, ADD COLUMN predicted_error_max float8,
    ADD COLUMN thread_pairs bigint, ADD COLUMN thread_speedup float8, ADD COLUMN thread_speedup_low float8, ADD COLUMN thread_speedup_high float8;
COMMENT ON COLUMN experiments.summary.fitted_degree_min IS 'The least degree that a polynomial had: with degree auto, chosen for each instance.';
COMMENT ON COLUMN experiments.summary.predicted_error_max IS 'The largest that a kernel itself expected: the relative error of each exponential.';
COMMENT ON COLUMN experiments.summary.thread_speedup IS
    'Geometric mean of the ratios to the same call on the same inputs with the fewest threads of the sweep; low and high as of speedup.';

CREATE OR REPLACE FUNCTION experiments.summarise(sweep bigint, shards int[]) RETURNS SETOF experiments.summary
LANGUAGE sql STABLE PARALLEL SAFE AS $$
WITH numbers AS MATERIALIZED (
    SELECT min(threads) AS fewest, max(threads) AS most FROM experiments.trial WHERE sweep_id = $1 AND ($2 IS NULL OR shard = ANY ($2)))
SELECT $1, (SELECT finished_at FROM experiments.sweep WHERE id = $1), trials, done, failed, skipped, rank, radius, bound,
    error_median, error_max, seconds_median, pairs, exp(ratio), exp(ratio - half_width), exp(ratio + half_width),
    threads, degree, n, d, centred, axis, kernel, precision, basis, form, kernel_parameters,
    estimated, error_standard_error, fitted_degree_min, fitted_degree_max, predicted_error_max,
    thread_pairs, exp(thread_ratio), exp(thread_ratio - thread_half_width), exp(thread_ratio + thread_half_width)
FROM (
    SELECT kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound,
        CASE WHEN grouping(n) = 0 THEN 'size' WHEN grouping(bound) = 0 THEN 'bound' ELSE 'none' END AS axis,
        count(*) AS trials,
        count(*) FILTER (WHERE status = 'done') AS done,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'skipped') AS skipped,
        -- Of a trial that never ran, whose kernel was to choose its degree, it is the highest degree's.
        max(rank) FILTER (WHERE status = 'done' OR degree IS NOT NULL) AS rank,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY gradient_relative_error) FILTER (WHERE status = 'done') AS error_median,
        max(gradient_relative_error) FILTER (WHERE status = 'done') AS error_max,
        count(*) FILTER (WHERE status = 'done' AND reference_rows IS NOT NULL) AS estimated,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY experiments.relative_standard_error(
            gradient_error_standard_error, gradient_absolute_error, gradient_relative_error)) FILTER (WHERE status = 'done')
            AS error_standard_error,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds_median) FILTER (WHERE status = 'done') AS seconds_median,
        min(fitted_degree) FILTER (WHERE status = 'done') AS fitted_degree_min,
        max(fitted_degree) FILTER (WHERE status = 'done') AS fitted_degree_max,
        max(predicted_exp_error) FILTER (WHERE status = 'done') AS predicted_error_max,
        count(ratio) AS pairs, avg(ratio) AS ratio,
        stddev_samp(ratio) * experiments.student_t(count(ratio) - 1) / sqrt(nullif(count(ratio), 0)) AS half_width,
        count(thread_ratio) AS thread_pairs, avg(thread_ratio) AS thread_ratio,
        stddev_samp(thread_ratio) * experiments.student_t(count(thread_ratio) - 1) / sqrt(nullif(count(thread_ratio), 0)) AS thread_half_width
    FROM (
        -- Most sweeps have one number of threads: their trials are not sorted.
        SELECT *, CASE WHEN status = 'done' AND speedup_over_exact > 0 THEN ln(speedup_over_exact) END AS ratio, NULL::float8 AS thread_ratio
        FROM experiments.configured
        WHERE sweep_id = $1 AND ($2 IS NULL OR shard = ANY ($2)) AND (SELECT fewest IS NOT DISTINCT FROM most FROM numbers)
        UNION ALL
        SELECT *, CASE WHEN status = 'done' AND speedup_over_exact > 0 THEN ln(speedup_over_exact) END,
            CASE WHEN status = 'done' AND threads > (SELECT fewest FROM numbers) AND first_value(threads) OVER same_call = (SELECT fewest FROM numbers)
                THEN ln(nullif(first_value(seconds_median) OVER same_call, 0) / nullif(seconds_median, 0)) END
        FROM experiments.configured
        WHERE sweep_id = $1 AND ($2 IS NULL OR shard = ANY ($2)) AND (SELECT fewest IS DISTINCT FROM most FROM numbers)
        WINDOW same_call AS (
            PARTITION BY status = 'done', shard, instance_key, kernel, precision, basis, form, degree, centred, radius, kernel_parameters ORDER BY threads, trial)
    ) measured
    GROUP BY GROUPING SETS (
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters),
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d),
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, bound))
) grouped
$$;
