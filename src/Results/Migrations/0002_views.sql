-- What people and programs read. Every answer of the command line is one of these or a statement over them.

-- A session advisory lock a node: it goes with the process, whatever ended it. Number 0 is the migration's lock.
CREATE VIEW experiments.live_node AS
SELECT objid::bigint::int AS node_id, pid
FROM pg_locks
WHERE locktype = 'advisory' AND classid = 1163415605 AND objid <> 0 AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
COMMENT ON VIEW experiments.live_node IS 'Nodes whose process is connected now.';

CREATE FUNCTION experiments.interval_rank(count bigint) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN count >= 6 THEN floor((count + 1) / 2.0 - 0.98 * sqrt(count))::int END;
COMMENT ON FUNCTION experiments.interval_rank IS
    'Which smallest and largest of the sorted values enclose the median with 95 % confidence, whatever the distribution; null below 6 values.';

CREATE FUNCTION experiments.student_t(freedom bigint) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN freedom = 1 THEN 12.7062 WHEN freedom > 1 THEN
    1.959964 + 2.372271 / freedom + 2.822519 / freedom ^ 2 + 2.555851 / freedom ^ 3 + 1.589536 / freedom ^ 4 END;
COMMENT ON FUNCTION experiments.student_t IS
    'The 97.5 % point of Student''s t, by Hill''s expansion (Abramowitz and Stegun 26.7.5); within 0.5 % from two degrees of freedom.';

CREATE VIEW experiments.trials AS
SELECT t.sweep_id, w.name AS sweep, t.trial, t.shard, t.instance, t.status, t.reason,
    t.family, t.n, t.d, t.bound, t.repeat, t.seed,
    t.kernel, t.precision, t.threads, t.basis, t.form, t.degree, t.centred, t.radius, t.rank, t.kernel_parameters,
    t.seconds_min, t.seconds_median, t.seconds_mad, t.core_seconds, t.flops, t.flops / nullif(t.seconds_median, 0) AS flops_per_second,
    t.state_bytes, t.max_logit, t.rms_logit, t.bound_measured, t.loss,
    t.gradient_absolute_error, t.gradient_relative_error, t.loss_relative_error, t.forward_relative_error,
    t.min_row_sum_over_n, t.nonpositive_row_sums, t.fitted_radius, t.predicted_exp_error, t.theorem_bound, t.theorem_slack,
    t.speedup_over_exact, t.project_seconds, t.moments_seconds, t.rows_seconds, t.reduce_seconds,
    t.attempts, t.node_id, t.epoch, t.started_at, t.trial_key, t.instance_key, t.digest,
    replace(t.trace_id::text, '-', '') AS trace_id, lpad(to_hex(t.span_id), 16, '0') AS span_id, t.parameters
FROM experiments.trial t JOIN experiments.sweep w ON w.id = t.sweep_id;
COMMENT ON VIEW experiments.trials IS 'Every stored trial with its sweep''s name.';

CREATE VIEW experiments.samples AS
SELECT s.sweep_id, s.trial, s.shard, r.round - 1 AS round, r.seconds
FROM experiments.sample s CROSS JOIN LATERAL unnest(s.seconds) WITH ORDINALITY AS r (seconds, round);
COMMENT ON VIEW experiments.samples IS 'Seconds per call, one row a trial and round (from 0). Rounds are paired across the trials of an instance.';

CREATE VIEW experiments.spans AS
SELECT replace(trace_id::text, '-', '') AS trace_id, lpad(to_hex(span_id), 16, '0') AS span_id,
    lpad(to_hex(parent_id), 16, '0') AS parent_id, name, kind, started_at, duration_seconds, error,
    sweep_id, shard, trial, attributes
FROM experiments.span;
COMMENT ON VIEW experiments.spans IS 'Spans with their ids as they are written elsewhere.';

CREATE VIEW experiments.paired_speedup AS
SELECT sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound, instances, speedup_median,
    sorted[experiments.interval_rank(instances)] AS speedup_low,
    sorted[instances::int - experiments.interval_rank(instances) + 1] AS speedup_high
FROM (
    SELECT sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound,
        count(*) AS instances,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY speedup_over_exact) AS speedup_median,
        array_agg(speedup_over_exact ORDER BY speedup_over_exact) AS sorted
    FROM experiments.trial
    WHERE status = 'done' AND speedup_over_exact IS NOT NULL AND kernel <> 'exact'
    GROUP BY sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound
) grouped;
COMMENT ON VIEW experiments.paired_speedup IS
    'Median speed-up over the exact kernel on the same inputs, and its 95 % interval by order statistics (null below 6 instances).';

CREATE VIEW experiments.error_by_degree AS
SELECT sweep_id, family, kernel, precision, basis, form, centred, radius, kernel_parameters, n, d, bound, degree,
    count(*) AS trials, count(*) FILTER (WHERE status = 'failed') AS failed, max(rank) AS rank,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY gradient_relative_error) AS gradient_relative_error_median,
    max(gradient_relative_error) AS gradient_relative_error_max,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY predicted_exp_error) AS predicted_exp_error_median,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY theorem_slack) AS theorem_slack_median
FROM experiments.trial
WHERE degree IS NOT NULL
GROUP BY sweep_id, family, kernel, precision, basis, form, centred, radius, kernel_parameters, n, d, bound, degree;
COMMENT ON VIEW experiments.error_by_degree IS 'How the gradient''s relative error falls as the degree grows.';

CREATE VIEW experiments.scaling_fit AS
SELECT sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, d, bound, trials, n_min, n_max,
    exponent, standard_error,
    exponent - experiments.student_t(trials - 2) * standard_error AS exponent_low,
    exponent + experiments.student_t(trials - 2) * standard_error AS exponent_high,
    exp(intercept) AS seconds_at_one, r_squared
FROM (
    SELECT sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, d, bound,
        count(*) AS trials, min(n) AS n_min, max(n) AS n_max,
        regr_slope(ln(seconds_median), ln(n)) AS exponent,
        regr_intercept(ln(seconds_median), ln(n)) AS intercept,
        regr_r2(ln(seconds_median), ln(n)) AS r_squared,
        CASE WHEN count(*) > 2 AND regr_sxx(ln(seconds_median), ln(n)) > 0 THEN
            sqrt(greatest(0, regr_syy(ln(seconds_median), ln(n))
                    - regr_sxy(ln(seconds_median), ln(n)) ^ 2 / regr_sxx(ln(seconds_median), ln(n)))
                / (count(*) - 2) / regr_sxx(ln(seconds_median), ln(n))) END AS standard_error
    FROM experiments.trial
    WHERE status = 'done' AND seconds_median > 0
    GROUP BY sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, d, bound
) fitted
WHERE n_max > n_min;
COMMENT ON VIEW experiments.scaling_fit IS
    'seconds = seconds_at_one × n ^ exponent by least squares on the logarithms, one point a trial, with a 95 % interval.';

CREATE VIEW experiments.boundary AS
SELECT sweep_id, family, kernel, precision, basis, form, degree, centred, radius, kernel_parameters, n, d, tolerance, sqrt(ln(n)) AS sqrt_ln_n,
    max(bound) FILTER (WHERE error <= tolerance) AS bound_within,
    min(bound) FILTER (WHERE error IS NULL OR error > tolerance) AS bound_beyond
FROM (
    SELECT sweep_id, family, kernel, precision, basis, form, degree, centred, radius, kernel_parameters, n, d, bound,
        -- A failed trial has no error: it is beyond any tolerance.
        percentile_cont(0.5) WITHIN GROUP (ORDER BY coalesce(gradient_relative_error, 'Infinity')) AS error
    FROM experiments.trial
    WHERE bound IS NOT NULL AND kernel NOT IN ('exact', 'reference') AND status <> 'skipped'
    GROUP BY sweep_id, family, kernel, precision, basis, form, degree, centred, radius, kernel_parameters, n, d, bound
) measured CROSS JOIN (VALUES (1e-1::float8), (1e-2), (1e-3), (1e-4), (1e-5), (1e-6)) AS t (tolerance)
GROUP BY sweep_id, family, kernel, precision, basis, form, degree, centred, radius, kernel_parameters, n, d, tolerance;
COMMENT ON VIEW experiments.boundary IS
    'The largest entry bound B whose median relative error stays within a tolerance, and the least at which it does not.';

CREATE VIEW experiments.phase_time AS
SELECT sweep_id, family, kernel, precision, threads, basis, form, degree, n, d, phase,
    count(*) AS trials,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds_median,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / nullif(seconds_median, 0)) AS share_median
FROM experiments.trial CROSS JOIN LATERAL (VALUES
    ('project', project_seconds), ('moments', moments_seconds), ('rows', rows_seconds), ('reduce', reduce_seconds)
) AS p (phase, seconds)
WHERE status = 'done' AND seconds IS NOT NULL
GROUP BY sweep_id, family, kernel, precision, threads, basis, form, degree, n, d, phase;
COMMENT ON VIEW experiments.phase_time IS 'Where a call''s time goes, by phase of the kernel.';

CREATE VIEW experiments.sweep_progress AS
SELECT w.id AS sweep_id, w.name, w.state, w.trials, w.trials_done AS done, w.trials_failed AS failed, w.trials_skipped AS skipped,
    w.shards, w.shards - w.shards_left AS shards_done,
    CASE WHEN w.state = 'done' THEN 0 ELSE (SELECT count(*) FROM experiments.shard s WHERE s.sweep_id = w.id AND s.state = 'leased') END
        AS shards_leased,
    w.created_at, w.finished_at, extract(epoch FROM coalesce(w.finished_at, now()) - w.created_at)::float8 AS age_seconds
FROM experiments.sweep w;
COMMENT ON VIEW experiments.sweep_progress IS 'How far each sweep is.';
