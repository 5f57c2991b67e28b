SELECT pg_advisory_unlock(1163415605, 0)
