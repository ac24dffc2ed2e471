"""The database's clock, and history that the application can't rewrite."""

from __future__ import annotations

from django.db import migrations

# One clock for every process. Only tests set the offset, in seconds, for their own sessions.
CLOCK = """
CREATE FUNCTION fulfillment_now() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT clock_timestamp() + make_interval(secs =>
        coalesce(nullif(current_setting('fulfillment.clock_offset', true), '')::float8, 0))
$$
"""

# The trigger holds for every role, the table's owner included; retention, run by the owner,
# has to say so by disabling it. The application's role loses the privileges as well.
APPEND_ONLY = """
CREATE FUNCTION fulfillment_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfillment_transition
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfillment_workflowversion
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfillment_plangraph
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfillment_command
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        GRANT USAGE ON SCHEMA public TO oms_app;
        REVOKE UPDATE, DELETE, TRUNCATE ON fulfillment_transition, fulfillment_workflowversion,
            fulfillment_plangraph, fulfillment_command FROM oms_app;
    END IF;
END $$;
"""

UNDO = """
DROP TRIGGER append_only ON fulfillment_transition;
DROP TRIGGER append_only ON fulfillment_workflowversion;
DROP TRIGGER append_only ON fulfillment_plangraph;
DROP TRIGGER append_only ON fulfillment_command;
DROP FUNCTION fulfillment_refuse_change();
DROP FUNCTION fulfillment_now();
"""


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0001_initial")]

    operations = [
        migrations.RunSQL(CLOCK, migrations.RunSQL.noop),
        migrations.RunSQL(APPEND_ONLY, UNDO),
    ]
