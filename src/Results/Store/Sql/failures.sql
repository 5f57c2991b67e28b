SELECT status, kernel, trials, example_trial, example_reason
FROM experiments.summarise_failures($1, $2::int[])
ORDER BY trials DESC, example_trial
LIMIT 20
