-- Large objects belong to nobody's schema, and until PostgreSQL 16 a read-only transaction could write them. Needs a superuser.
REVOKE EXECUTE ON FUNCTION lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea), lowrite(int, bytea),
    lo_unlink(oid), lo_truncate(int, int), lo_truncate64(int, bigint) FROM PUBLIC
