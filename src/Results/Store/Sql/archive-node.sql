COPY (
    -- Those that the rows name. A node's number leads, since it is another in every store.
    SELECT id, {columns} FROM experiments.node WHERE id IN (
        SELECT node_id FROM experiments.shard WHERE sweep_id = {sweep}
        UNION SELECT node_id FROM experiments.trial WHERE sweep_id = {sweep}
        UNION SELECT node_id FROM experiments.trial_attempt WHERE sweep_id = {sweep})
    ORDER BY id
) TO STDOUT (ENCODING 'UTF8')
