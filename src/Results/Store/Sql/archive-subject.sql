SELECT name, submission, state, trials, trials_done + trials_failed + trials_skipped, now() FROM experiments.sweep WHERE id = $1
