-- Before the first use, as an administrator; psql asks for nothing and gets the passwords as variables:
--   psql -v owner_password=… -v silo_password=… -v dashboards_password=… -f roles.sql
-- The owner migrates. Silos and whoever submits need no more than silo may, dashboards no more than reading.
CREATE ROLE experiments LOGIN CREATEROLE PASSWORD :'owner_password';
CREATE ROLE silo LOGIN PASSWORD :'silo_password';
CREATE ROLE dashboards LOGIN PASSWORD :'dashboards_password';
CREATE DATABASE experiments OWNER experiments;
REVOKE ALL ON DATABASE experiments FROM PUBLIC;
\connect experiments
-- Large objects belong to nobody's schema: whoever may only read could fill the disk with them.
REVOKE EXECUTE ON FUNCTION lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea), lowrite(int, bytea),
    lo_unlink(oid), lo_truncate(int, int), lo_truncate64(int, bigint) FROM PUBLIC;
