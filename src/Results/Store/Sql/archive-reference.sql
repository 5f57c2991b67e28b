COPY (SELECT {columns} FROM experiments.reference WHERE instance_key = ANY ('{{keys}}'::uuid[])) TO STDOUT (ENCODING 'UTF8')
