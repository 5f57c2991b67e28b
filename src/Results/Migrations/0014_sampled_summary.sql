-- What a long sweep comes to while it runs is told from some of its shards: all of a million trials take seconds to group.

CREATE FUNCTION experiments.summarise(sweep bigint, shards int[]) RETURNS SETOF experiments.summary
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
        FROM experiments.trial WHERE sweep_id = $1 AND ($2 IS NULL OR shard = ANY ($2))
    ) measured
    GROUP BY GROUPING SETS (
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters),
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, n, d),
        (kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters, bound))
) grouped
$$;
COMMENT ON FUNCTION experiments.summarise(bigint, int[]) IS 'What these shards of a sweep came to so far, as the table summary has it; all of them where null.';

CREATE OR REPLACE FUNCTION experiments.summarise(sweep bigint) RETURNS SETOF experiments.summary
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT * FROM experiments.summarise($1, NULL) $$;

CREATE FUNCTION experiments.summarise_failures(sweep bigint, shards int[]) RETURNS SETOF experiments.summary_failure
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT $1, (SELECT finished_at FROM experiments.sweep WHERE id = $1), count(*), min(trial), status, kernel,
    (array_agg(reason ORDER BY trial))[1]
FROM experiments.trial
WHERE sweep_id = $1 AND status <> 'done' AND shard = ANY (coalesce($2, ARRAY(
    SELECT number FROM experiments.shard WHERE sweep_id = $1 AND trials_failed + trials_skipped > 0)))
GROUP BY status, kernel, regexp_replace(reason, '[-+]?[0-9][0-9.,]*([eE][-+]?[0-9]+)?', '#', 'g')
$$;
COMMENT ON FUNCTION experiments.summarise_failures(bigint, int[]) IS
    'Why trials of these shards failed or were skipped so far, as the table summary_failure has it; of all shards where null.';

CREATE OR REPLACE FUNCTION experiments.summarise_failures(sweep bigint) RETURNS SETOF experiments.summary_failure
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT * FROM experiments.summarise_failures($1, NULL) $$;
