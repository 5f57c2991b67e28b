SELECT f.sha256, f.bytes FROM experiments.sweep_file s JOIN experiments.file f USING (content) WHERE s.sweep_id = $1 ORDER BY f.content
