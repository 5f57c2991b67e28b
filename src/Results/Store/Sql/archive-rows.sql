COPY (SELECT {columns} FROM experiments.{table} WHERE sweep_id = {sweep}) TO STDOUT (ENCODING 'UTF8')
