#!/bin/bash
# The application's role owns nothing: migrations run as the owner, everything else as oms_app.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --set app_password="$OMS_DATABASE_PASSWORD" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE oms_app LOGIN PASSWORD :'app_password';
GRANT USAGE ON SCHEMA public TO oms_app;
ALTER DEFAULT PRIVILEGES FOR ROLE oms_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO oms_app;
ALTER DEFAULT PRIVILEGES FOR ROLE oms_owner IN SCHEMA public
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO oms_app;
SQL
