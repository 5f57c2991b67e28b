-- After `experiments database migrate`, which made the two roles, as the owner; again does no harm.
GRANT experiments_writer TO silo;
GRANT experiments_reader TO dashboards;
-- Settings are not inherited with a role. A dashboard's query is read-only and ends.
ALTER ROLE dashboards IN DATABASE experiments SET default_transaction_read_only = on;
ALTER ROLE dashboards IN DATABASE experiments SET statement_timeout = '30s';
