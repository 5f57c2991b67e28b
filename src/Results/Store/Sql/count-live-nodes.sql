SELECT count(*) FROM experiments.live_node
