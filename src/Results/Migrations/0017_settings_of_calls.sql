-- Calls under a mask and without one, of another scale, of several heads or batches, are told apart in every table: as their kernels' settings are.

CREATE FUNCTION experiments.settings_of_call(kernel_parameters jsonb, parameters jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT nullif(coalesce($1, '{}') || coalesce(
    (SELECT jsonb_object_agg(key, value) FROM jsonb_each($2)
     WHERE key = 'mask' AND value <> '"none"' OR key = 'scale' AND value <> '"d"' OR key IN ('heads', 'batch') AND value <> '1'), '{}'), '{}')
$$;
COMMENT ON FUNCTION experiments.settings_of_call IS
    'A trial''s kernel_parameters and, of its parameters, the mask, scale, heads and batch that are not what a call has when nothing is said.';

CREATE VIEW experiments.configured AS
SELECT sweep_id, shard, trial, family, kernel, precision, threads, basis, form, degree, centred, radius,
    -- Most sweeps name none of the four: no function is called then.
    CASE WHEN parameters ?| ARRAY['mask', 'scale', 'heads', 'batch']
        THEN experiments.settings_of_call(kernel_parameters, parameters) ELSE kernel_parameters END AS kernel_parameters,
    n, d, bound, status, rank, reference_rows, gradient_relative_error, gradient_absolute_error, gradient_error_standard_error,
    predicted_exp_error, theorem_slack, seconds_median, speedup_over_exact
FROM experiments.trial;
COMMENT ON VIEW experiments.configured IS
    'Trials as the tables group them: in kernel_parameters also the mask, scale, heads and batch of the call, where they are not the usual ones.';

CREATE OR REPLACE VIEW experiments.paired_speedup AS
SELECT sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound, instances, speedup_median,
    sorted[experiments.interval_rank(instances)] AS speedup_low,
    sorted[instances::int - experiments.interval_rank(instances) + 1] AS speedup_high
FROM (
    SELECT sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound,
        count(*) AS instances,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY speedup_over_exact) AS speedup_median,
        array_agg(speedup_over_exact ORDER BY speedup_over_exact) AS sorted
    FROM experiments.configured
    WHERE status = 'done' AND speedup_over_exact IS NOT NULL AND kernel <> 'exact'
    GROUP BY sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d, bound
) grouped;

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
FROM experiments.configured
WHERE degree IS NOT NULL
GROUP BY sweep_id, family, kernel, precision, basis, form, centred, radius, kernel_parameters, n, d, bound, degree;

CREATE OR REPLACE VIEW experiments.scaling_fit AS
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
    FROM experiments.configured
    WHERE status = 'done' AND seconds_median > 0
    GROUP BY sweep_id, family, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, d, bound
) fitted
WHERE n_max > n_min;

CREATE OR REPLACE VIEW experiments.boundary AS
SELECT sweep_id, family, kernel, precision, basis, form, degree, centred, radius, kernel_parameters, n, d, tolerance, sqrt(ln(n)) AS sqrt_ln_n,
    max(bound) FILTER (WHERE error <= tolerance) AS bound_within,
    min(bound) FILTER (WHERE error IS NULL OR error > tolerance) AS bound_beyond
FROM (
    SELECT sweep_id, family, kernel, precision, basis, form, degree, centred, radius, kernel_parameters, n, d, bound,
        -- A failed trial has no error: it is beyond any tolerance.
        percentile_cont(0.5) WITHIN GROUP (ORDER BY coalesce(gradient_relative_error, 'Infinity')) AS error
    FROM experiments.configured
    WHERE bound IS NOT NULL AND kernel NOT IN ('exact', 'reference') AND status <> 'skipped'
    GROUP BY sweep_id, family, kernel, precision, basis, form, degree, centred, radius, kernel_parameters, n, d, bound
) measured CROSS JOIN (VALUES (1e-1::float8), (1e-2), (1e-3), (1e-4), (1e-5), (1e-6)) AS t (tolerance)
GROUP BY sweep_id, family, kernel, precision, basis, form, degree, centred, radius, kernel_parameters, n, d, tolerance;

CREATE OR REPLACE FUNCTION experiments.summarise(sweep bigint, shards int[]) RETURNS SETOF experiments.summary
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
        FROM experiments.configured WHERE sweep_id = $1 AND ($2 IS NULL OR shard = ANY ($2))
    ) measured
    GROUP BY GROUPING SETS (
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters),
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d),
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, bound))
) grouped
$$;
