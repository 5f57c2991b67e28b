SELECT status, kernel, trials, example_trial, example_reason
FROM experiments.summarise_failures($1)
ORDER BY trials DESC, example_trial
LIMIT 20
