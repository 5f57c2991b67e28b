SELECT has_table_privilege('experiments.file_piece', 'SELECT')
