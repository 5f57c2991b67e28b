-- References on a sample of rows: errors are estimates then, with standard errors.

ALTER TABLE experiments.trial
    ADD COLUMN reference_rows int, ADD COLUMN gradient_error_standard_error float8, ADD COLUMN loss_error_standard_error float8;
COMMENT ON COLUMN experiments.trial.reference_rows IS
    'Of how many drawn rows the reference was: the errors are estimates, but for forward_relative_error, which is the largest of those rows. '
    'Null where it was of all rows.';
COMMENT ON COLUMN experiments.trial.gradient_error_standard_error IS
    'Of gradient_absolute_error, in its units, where that is an estimate: the largest of the d × d entries'' estimates, so that it is too large '
    'on average where it is not several times this.';
COMMENT ON COLUMN experiments.trial.loss_error_standard_error IS 'Of loss_relative_error, in its units, where that is an estimate.';

-- An earlier attempt is a trial's columns, in their order, and then its own two.
ALTER TABLE experiments.trial_attempt RENAME COLUMN replaced_at TO replaced_before;
ALTER TABLE experiments.trial_attempt RENAME COLUMN seconds TO seconds_before;
ALTER TABLE experiments.trial_attempt
    ADD COLUMN reference_rows int, ADD COLUMN gradient_error_standard_error float8, ADD COLUMN loss_error_standard_error float8,
    ADD COLUMN replaced_at timestamptz, ADD COLUMN seconds float8[];
UPDATE experiments.trial_attempt SET replaced_at = replaced_before, seconds = seconds_before;
ALTER TABLE experiments.trial_attempt
    ALTER COLUMN replaced_at SET NOT NULL, DROP COLUMN replaced_before, DROP COLUMN seconds_before;

ALTER TABLE experiments.reference ADD COLUMN rows int;
COMMENT ON COLUMN experiments.reference.rows IS
    'Null for a whole answer. Else of how many drawn rows it is: gradient holds their dQ and forward their F, (rows, d) each, loss is the sum over '
    'them, and the key is a hash of the instance''s key and of this number.';

CREATE FUNCTION experiments.relative_standard_error(standard_error float8, absolute_error float8, relative_error float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN standard_error * relative_error / nullif(absolute_error, 0);
COMMENT ON FUNCTION experiments.relative_standard_error IS 'A standard error in the units of the relative error of the same estimate.';

CREATE OR REPLACE VIEW experiments.trials AS
SELECT t.sweep_id, w.name AS sweep, t.trial, t.shard, t.instance, t.status, t.reason,
    t.family, t.n, t.d, t.bound, t.repeat, t.seed,
    t.kernel, t.precision, t.threads, t.basis, t.form, t.degree, t.centred, t.radius, t.rank, t.kernel_parameters,
    t.seconds_min, t.seconds_median, t.seconds_mad, t.core_seconds, t.flops, t.flops / nullif(t.seconds_median, 0) AS flops_per_second,
    t.state_bytes, t.max_logit, t.rms_logit, t.bound_measured, t.loss,
    t.gradient_absolute_error, t.gradient_relative_error, t.loss_relative_error, t.forward_relative_error,
    t.min_row_sum_over_n, t.nonpositive_row_sums, t.fitted_radius, t.predicted_exp_error, t.theorem_bound, t.theorem_slack,
    t.speedup_over_exact, t.project_seconds, t.moments_seconds, t.rows_seconds, t.reduce_seconds,
    t.attempts, t.node_id, t.epoch, t.started_at, t.trial_key, t.instance_key, t.digest,
    replace(t.trace_id::text, '-', '') AS trace_id, lpad(to_hex(t.span_id), 16, '0') AS span_id, t.parameters,
    t.fitted_degree, t.reference_rows, t.gradient_error_standard_error, t.loss_error_standard_error
FROM experiments.trial t JOIN experiments.sweep w ON w.id = t.sweep_id;

CREATE OR REPLACE VIEW experiments.error_by_degree AS
SELECT sweep_id, family, kernel, precision, basis, form, centred, radius, kernel_parameters, n, d, bound, degree,
    count(*) AS trials, count(*) FILTER (WHERE status = 'failed') AS failed, max(rank) AS rank,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY gradient_relative_error) AS gradient_relative_error_median,
    max(gradient_relative_error) AS gradient_relative_error_max,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY predicted_exp_error) AS predicted_exp_error_median,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY theorem_slack) AS theorem_slack_median,
    count(*) FILTER (WHERE status = 'done' AND reference_rows IS NOT NULL) AS estimated,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY experiments.relative_standard_error(
        gradient_error_standard_error, gradient_absolute_error, gradient_relative_error)) AS gradient_relative_standard_error_median
FROM experiments.trial
WHERE degree IS NOT NULL
GROUP BY sweep_id, family, kernel, precision, basis, form, centred, radius, kernel_parameters, n, d, bound, degree;

ALTER TABLE experiments.summary ADD COLUMN estimated bigint, ADD COLUMN error_standard_error float8;
COMMENT ON COLUMN experiments.summary.estimated IS 'How many of the trials that are done have errors estimated from a sample of rows.';
COMMENT ON COLUMN experiments.summary.error_standard_error IS 'Median standard error of those estimates, relative as they are.';

CREATE OR REPLACE FUNCTION experiments.summarise(sweep bigint) RETURNS SETOF experiments.summary
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT $1, (SELECT finished_at FROM experiments.sweep WHERE id = $1), trials, done, failed, skipped, rank, radius, bound,
    error_median, error_max, seconds_median, pairs, exp(ratio), exp(ratio - half_width), exp(ratio + half_width),
    threads, degree, n, d, centred, axis, kernel, precision, basis, form, kernel_parameters,
    estimated, error_standard_error
FROM (
    SELECT kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound,
        CASE WHEN grouping(n) = 0 THEN 'size' WHEN grouping(bound) = 0 THEN 'bound' ELSE 'none' END AS axis,
        count(*) AS trials,
        count(*) FILTER (WHERE status = 'done') AS done,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'skipped') AS skipped,
        max(rank) AS rank,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY gradient_relative_error) FILTER (WHERE status = 'done') AS error_median,
        max(gradient_relative_error) FILTER (WHERE status = 'done') AS error_max,
        count(*) FILTER (WHERE status = 'done' AND reference_rows IS NOT NULL) AS estimated,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY experiments.relative_standard_error(
            gradient_error_standard_error, gradient_absolute_error, gradient_relative_error)) FILTER (WHERE status = 'done')
            AS error_standard_error,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds_median) FILTER (WHERE status = 'done') AS seconds_median,
        count(ratio) AS pairs, avg(ratio) AS ratio,
        stddev_samp(ratio) * experiments.student_t(count(ratio) - 1) / sqrt(nullif(count(ratio), 0)) AS half_width
    FROM (
        SELECT *, CASE WHEN status = 'done' AND speedup_over_exact > 0 THEN ln(speedup_over_exact) END AS ratio
        FROM experiments.trial WHERE sweep_id = $1
    ) measured
    GROUP BY GROUPING SETS (
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters),
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d),
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, bound))
) grouped
$$;
