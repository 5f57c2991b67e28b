-- Locked until the transaction ends, whether it is new or was there: nobody deletes it before a sweep names it, and whoever stores the same waits.
INSERT INTO experiments.file AS f (content, sha256, bytes) VALUES ($1, $2, $3)
ON CONFLICT (content) DO UPDATE SET stored_at = f.stored_at
RETURNING f.sha256 = $2 AND f.bytes = $3
