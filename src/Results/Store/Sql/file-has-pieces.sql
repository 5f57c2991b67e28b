-- Asked once the file is locked: a statement that waited for the lock would not see what was stored meanwhile.
SELECT EXISTS (SELECT 1 FROM experiments.file_piece WHERE content = $1)
