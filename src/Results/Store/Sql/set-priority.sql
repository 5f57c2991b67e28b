UPDATE experiments.sweep SET priority = $2 WHERE id = $1
