COPY (SELECT {columns} FROM experiments.sweep WHERE id = {sweep}) TO STDOUT (ENCODING 'UTF8')
