-- What a sweep came to, by kernel configuration, by size and by bound. A finished sweep's answer is kept, since a hundred
-- thousand trials take half a second to group and a million five; a sweep that runs is asked anew.

CREATE TABLE experiments.summary (
    sweep_id          bigint NOT NULL REFERENCES experiments.sweep ON DELETE CASCADE,
    finished_at       timestamptz NOT NULL,
    trials            bigint NOT NULL,
    done              bigint NOT NULL,
    failed            bigint NOT NULL,
    skipped           bigint NOT NULL,
    rank              bigint,
    radius            float8,
    bound             float8,
    error_median      float8,
    error_max         float8,
    seconds_median    float8,
    pairs             bigint NOT NULL,
    speedup           float8,
    speedup_low       float8,
    speedup_high      float8,
    threads           int NOT NULL,
    degree            int,
    n                 int,
    d                 int,
    centred           bool,
    axis              text COLLATE "C" NOT NULL CHECK (axis IN ('none', 'size', 'bound')),
    kernel            text COLLATE "C" NOT NULL,
    precision         text COLLATE "C" NOT NULL,
    basis             text COLLATE "C",
    form              text COLLATE "C",
    kernel_parameters jsonb
);
CREATE INDEX summary_sweep ON experiments.summary (sweep_id);
COMMENT ON TABLE experiments.summary IS
    'What finished sweeps came to, a row a kernel configuration (axis none), and at each n and d (size) and bound. summarise(sweep) computes it.';
COMMENT ON COLUMN experiments.summary.finished_at IS 'It holds while this is the sweep''s own: a retry or an extension makes it void.';
COMMENT ON COLUMN experiments.summary.speedup IS 'Geometric mean of the paired ratios; low and high are Student''s 95 % interval of their logarithms.';

CREATE TABLE experiments.summary_failure (
    sweep_id       bigint NOT NULL REFERENCES experiments.sweep ON DELETE CASCADE,
    finished_at    timestamptz NOT NULL,
    trials         bigint NOT NULL,
    example_trial  bigint NOT NULL,
    status         text COLLATE "C" NOT NULL,
    kernel         text COLLATE "C" NOT NULL,
    example_reason text
);
CREATE INDEX summary_failure_sweep ON experiments.summary_failure (sweep_id);
COMMENT ON TABLE experiments.summary_failure IS 'Why trials of finished sweeps failed or were skipped. summarise_failures(sweep) computes it.';

-- One pass for all three. Ratios multiply, so their logarithms are what averages.
CREATE FUNCTION experiments.summarise(sweep bigint) RETURNS SETOF experiments.summary
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT $1, (SELECT finished_at FROM experiments.sweep WHERE id = $1), trials, done, failed, skipped, rank, radius, bound,
    error_median, error_max, seconds_median, pairs, exp(ratio), exp(ratio - half_width), exp(ratio + half_width),
    threads, degree, n, d, centred, axis, kernel, precision, basis, form, kernel_parameters
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
COMMENT ON FUNCTION experiments.summarise IS 'What a sweep came to so far, as the table summary has it.';

-- Reasons that differ only in their numbers are one reason. Only shards that hold such trials are read.
CREATE FUNCTION experiments.summarise_failures(sweep bigint) RETURNS SETOF experiments.summary_failure
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT $1, (SELECT finished_at FROM experiments.sweep WHERE id = $1), count(*), min(trial), status, kernel,
    (array_agg(reason ORDER BY trial))[1]
FROM experiments.trial
WHERE sweep_id = $1 AND status <> 'done' AND shard = ANY (ARRAY(
    SELECT number FROM experiments.shard WHERE sweep_id = $1 AND trials_failed + trials_skipped > 0))
GROUP BY status, kernel, regexp_replace(reason, '[-+]?[0-9][0-9.,]*([eE][-+]?[0-9]+)?', '#', 'g')
$$;
COMMENT ON FUNCTION experiments.summarise_failures IS 'Why trials of a sweep failed or were skipped so far, as the table summary_failure has it.';
