-- The degree that a trial's polynomial had: with degree auto the kernel chooses it, and the column degree, an axis, is null.

ALTER TABLE experiments.trial ADD COLUMN fitted_degree int;

-- An earlier attempt is a trial's columns, in their order, and then its own two.
ALTER TABLE experiments.trial_attempt RENAME COLUMN replaced_at TO replaced_before;
ALTER TABLE experiments.trial_attempt RENAME COLUMN seconds TO seconds_before;
ALTER TABLE experiments.trial_attempt
    ADD COLUMN fitted_degree int, ADD COLUMN replaced_at timestamptz, ADD COLUMN seconds float8[];
UPDATE experiments.trial_attempt SET replaced_at = replaced_before, seconds = seconds_before;
ALTER TABLE experiments.trial_attempt
    ALTER COLUMN replaced_at SET NOT NULL, DROP COLUMN replaced_before, DROP COLUMN seconds_before;

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
    t.fitted_degree
FROM experiments.trial t JOIN experiments.sweep w ON w.id = t.sweep_id;
