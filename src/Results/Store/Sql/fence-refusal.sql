SELECT state, epoch, committed_epoch, trials, trials_done + trials_failed + trials_skipped, committed_node
FROM experiments.shard WHERE sweep_id = $1 AND number = $2
