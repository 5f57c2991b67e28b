UPDATE experiments.sweep SET isolated = true WHERE id = $1 AND NOT isolated
