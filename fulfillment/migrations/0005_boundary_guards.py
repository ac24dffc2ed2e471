"""Every target system has a condition; what operators did can't be rewritten."""

from __future__ import annotations

from django.db import migrations

ATTEMPTS_KNOW_THEIR_TARGET = """
UPDATE fulfillment_attempt a SET target_id = c.target_id
FROM fulfillment_command c WHERE c.id = a.command_id AND a.target_id = '';
"""

# A trigger, because rows come by several doors and the claim must always find its lock.
CONDITIONS = """
CREATE FUNCTION fulfillment_give_condition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fulfillment_targetcondition (target_id, paused_by, pause_reason, rate_tokens,
        breaker, breaker_reason, failures_in_a_row, probes_passed)
    VALUES (NEW.name, '', '', 0, 'CLOSED', '', 0, 0) ON CONFLICT (target_id) DO NOTHING;
    RETURN NEW;
END $$;

CREATE TRIGGER has_condition AFTER INSERT ON fulfillment_targetsystem
    FOR EACH ROW EXECUTE FUNCTION fulfillment_give_condition();

INSERT INTO fulfillment_targetcondition (target_id, paused_by, pause_reason, rate_tokens,
    breaker, breaker_reason, failures_in_a_row, probes_passed)
SELECT name, '', '', 0, 'CLOSED', '', 0, 0 FROM fulfillment_targetsystem
ON CONFLICT (target_id) DO NOTHING;
"""

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfillment_operation
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON fulfillment_operation FROM oms_app;
    END IF;
END $$;
"""

UNDO = """
DROP TRIGGER append_only ON fulfillment_operation;
DROP TRIGGER has_condition ON fulfillment_targetsystem;
DROP FUNCTION fulfillment_give_condition();
"""


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0004_boundary")]

    operations = [
        migrations.RunSQL(ATTEMPTS_KNOW_THEIR_TARGET, migrations.RunSQL.noop),
        migrations.RunSQL(CONDITIONS + APPEND_ONLY, UNDO),
    ]
