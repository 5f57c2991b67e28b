-- One at a time, until they commit: of two deletions at once each would see the other's sweep, which is gone in a moment, still carry a file.
SELECT pg_advisory_xact_lock(1163415606, 0)
