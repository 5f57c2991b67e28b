SELECT pg_advisory_lock(1163415605, 0)
