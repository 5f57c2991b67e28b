-- Before the first use, as an administrator; psql asks for nothing and gets the passwords as variables:
--   psql -v owner_password=… -v silo_password=… -v dashboards_password=… -f roles.sql
-- The owner migrates. Silos and whoever submits need no more than silo may, dashboards no more than reading.
CREATE ROLE experiments LOGIN CREATEROLE PASSWORD :'owner_password';
CREATE ROLE silo LOGIN PASSWORD :'silo_password';
CREATE ROLE dashboards LOGIN PASSWORD :'dashboards_password';
CREATE DATABASE experiments OWNER experiments;
REVOKE ALL ON DATABASE experiments FROM PUBLIC;
