-- Needs the database's owner. Plain psql then finds our names unqualified, and only named roles may make temporary tables.
ALTER DATABASE {database} SET search_path = experiments, public;
REVOKE TEMPORARY, CREATE ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT ON DATABASE {database} TO {writer}, {reader};
