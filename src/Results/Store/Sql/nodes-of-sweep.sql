SELECT k.id, k.name, k.host, k.process_id, k.facts::text, k.started_at, s.shards, s.trials
FROM (SELECT node_id, count(*) AS shards, sum(trials)::bigint AS trials FROM experiments.shard
      WHERE sweep_id = $1 AND state = 'done' AND node_id IS NOT NULL GROUP BY node_id) s
JOIN experiments.node k ON k.id = s.node_id
ORDER BY s.trials DESC, k.id
