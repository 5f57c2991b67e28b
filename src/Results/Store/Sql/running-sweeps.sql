SELECT id FROM experiments.sweep WHERE state = 'running' ORDER BY id
