SELECT data FROM experiments.file_piece WHERE content = $1 AND number = $2
