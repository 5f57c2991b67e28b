SELECT axis, kernel, precision, threads, basis, form, degree, centred, radius, kernel_parameters::text,
    n, d, bound, trials, done, failed, skipped, rank, error_median, error_max, seconds_median,
    pairs, speedup, speedup_low, speedup_high, coalesce(estimated, 0), error_standard_error,
    fitted_degree_min, fitted_degree_max, predicted_error_max,
    thread_pairs, thread_speedup, thread_speedup_low, thread_speedup_high
FROM experiments.summarise($1, $2::int[])
ORDER BY kernel, precision, basis NULLS FIRST, form NULLS FIRST, centred NULLS FIRST, radius NULLS FIRST, degree NULLS FIRST, kernel_parameters NULLS FIRST, threads, d, n, bound
