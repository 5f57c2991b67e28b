ALTER ROLE {role} LOGIN PASSWORD {password};
ALTER ROLE {role} SET search_path = experiments, pg_catalog;
