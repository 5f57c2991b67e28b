SELECT s.axis, s.kernel, s.precision, s.threads, s.basis, s.form, s.degree, s.centred, s.radius, s.kernel_parameters::text,
    s.n, s.d, s.bound, s.trials, s.done, s.failed, s.skipped, s.rank, s.error_median, s.error_max, s.seconds_median,
    s.pairs, s.speedup, s.speedup_low, s.speedup_high, coalesce(s.estimated, 0), s.error_standard_error,
    s.fitted_degree_min, s.fitted_degree_max, s.predicted_error_max,
    s.thread_pairs, s.thread_speedup, s.thread_speedup_low, s.thread_speedup_high
FROM experiments.summary s JOIN experiments.sweep w ON w.id = s.sweep_id AND w.finished_at = s.finished_at
WHERE s.sweep_id = $1 AND w.state = 'done'
ORDER BY kernel, precision, basis NULLS FIRST, form NULLS FIRST, centred NULLS FIRST, radius NULLS FIRST, degree NULLS FIRST, kernel_parameters NULLS FIRST, threads, d, n, bound
