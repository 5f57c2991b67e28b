-- Kept summaries in which calls of several masks, scales, heads or batches were one row (before 0017), or that lack what 0018 added, are made again. By
-- itself, since it may take a while (some 3 s a million trials), and locks no table that others read.

WITH stale AS (
    SELECT DISTINCT s.sweep_id FROM experiments.summary s JOIN experiments.sweep w ON w.id = s.sweep_id AND w.finished_at = s.finished_at
    WHERE EXISTS (
        SELECT FROM experiments.trial t
        WHERE t.sweep_id = s.sweep_id AND (t.parameters ?| ARRAY['mask', 'scale', 'heads', 'batch'] OR t.fitted_degree IS NOT NULL
            OR t.predicted_exp_error IS NOT NULL OR t.threads > 1))
), gone AS (
    DELETE FROM experiments.summary WHERE sweep_id IN (SELECT sweep_id FROM stale)
)
INSERT INTO experiments.summary SELECT made.* FROM stale, experiments.summarise(stale.sweep_id) made;
