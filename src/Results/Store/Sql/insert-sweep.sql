INSERT INTO experiments.sweep (
    submission, name, question, seed, specification, specification_hash, source, instances, trials, traceparent, git_commit, priority)
VALUES ($1, $2, $3, $4, $5::json, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (submission) DO NOTHING
RETURNING id
