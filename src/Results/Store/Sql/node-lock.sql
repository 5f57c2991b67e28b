SELECT pg_try_advisory_lock(1163415605, $1)
