SELECT id FROM experiments.sweep WHERE submission = $1
