-- Of another node, and leased for twice as long as nine in ten of the sweep's shards took, each by its prediction; from the grant on, so with the wait for a lane.
SELECT s.number
FROM experiments.shard s,
    (SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM committed_at - granted_at) / predicted_seconds) AS pace
     FROM experiments.shard WHERE sweep_id = $1 AND state = 'done' AND committed_epoch = epoch AND predicted_seconds > 0) p
WHERE s.sweep_id = $1 AND s.state = 'leased' AND s.node_id <> $2
  AND clock_timestamp() - s.granted_at > greatest($3, make_interval(secs => 2 * p.pace * s.predicted_seconds)) AND p.pace IS NOT NULL
ORDER BY s.granted_at
LIMIT $4
