COPY experiments.{table} ({columns}) FROM STDIN (ENCODING 'UTF8')
