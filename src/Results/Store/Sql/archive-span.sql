COPY (
    SELECT {columns} FROM experiments.span WHERE sweep_id = {sweep}
    UNION ALL
    -- A span that names no sweep belongs to it by its trace.
    SELECT {columns} FROM experiments.span WHERE sweep_id IS NULL
      AND trace_id IN (SELECT trace_id FROM experiments.span WHERE sweep_id = {sweep})
) TO STDOUT (ENCODING 'UTF8')
