COPY experiments.trial ({columns}) FROM STDIN (FORMAT BINARY)
