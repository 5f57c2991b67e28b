-- Asked again now that they are locked: a submission may have named one between the look and the lock.
DELETE FROM experiments.file f
WHERE f.content = ANY ($1) AND NOT EXISTS (SELECT 1 FROM experiments.sweep_file s WHERE s.content = f.content)
