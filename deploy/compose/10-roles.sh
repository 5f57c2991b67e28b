#!/bin/sh
# Run by the Postgres image when its folder is empty.
set -eu
psql -v ON_ERROR_STOP=1 -v owner_password="$OWNER_PASSWORD" -v silo_password="$SILO_PASSWORD" \
  -v dashboards_password="$DASHBOARDS_PASSWORD" --username "$POSTGRES_USER" --dbname postgres -f /etc/experiments/roles.sql
