-- One that is locked is being named by a submission just now, and so is not unused.
SELECT f.content FROM experiments.file f
WHERE NOT EXISTS (SELECT 1 FROM experiments.sweep_file s WHERE s.content = f.content)
FOR UPDATE SKIP LOCKED
