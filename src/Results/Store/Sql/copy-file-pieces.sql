COPY experiments.file_piece (content, number, data) FROM STDIN (FORMAT binary)
