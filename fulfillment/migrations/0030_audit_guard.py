"""Seals of audit heads; states change only where a unit of work changes them."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

# What refuses a state: the triggers that call it are made after every migration, from the state
# machines that there are then (see fulfillment.engine.store.guards).
STATES = """
CREATE FUNCTION fulfillment_refuse_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION '%: a row that is % is refused: only a unit of work makes one, and lets '
            'it begin where its state machine begins', TG_TABLE_NAME, NEW.state
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RAISE EXCEPTION '%: % to % is refused: states change by their transitions, in a unit of work',
        TG_TABLE_NAME, OLD.state, NEW.state USING ERRCODE = 'insufficient_privilege';
END $$;
"""
NO_STATES = "DROP FUNCTION fulfillment_refuse_state() CASCADE"

# A chain only grows: its head moves forward, and never to another hash at the same place.
HEADS = """
CREATE FUNCTION fulfillment_refuse_head() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: the audit trail of % can only grow; refused', TG_TABLE_NAME,
        OLD.order_reference USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER head_moves_forward AFTER UPDATE OF audit_sequence, audit_head
    ON fulfillment_fulfillment FOR EACH ROW
    WHEN (NEW.audit_sequence < OLD.audit_sequence OR (NEW.audit_sequence = OLD.audit_sequence
          AND NEW.audit_head IS DISTINCT FROM OLD.audit_head))
    EXECUTE FUNCTION fulfillment_refuse_head();
"""
NO_HEADS = "DROP FUNCTION fulfillment_refuse_head() CASCADE"

# See 0002. What has a history is not deleted either.
APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfillment_auditseal
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfillment_sealedrow
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON fulfillment_auditseal, fulfillment_sealedrow
            FROM oms_app;
        REVOKE DELETE, TRUNCATE ON fulfillment_fulfillment, fulfillment_attempt FROM oms_app;
    END IF;
END $$;
"""
KEPT_NO_MORE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        GRANT DELETE ON fulfillment_fulfillment, fulfillment_attempt TO oms_app;
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0029_manual_work")]

    operations = [
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                (
                    "number",
                    models.BigIntegerField(
                        help_text="From 1, without gaps.", primary_key=True, serialize=False
                    ),
                ),
                ("sealed_at", models.DateTimeField()),
                ("marks", models.JSONField(help_text="Up to which id each log is sealed.")),
                ("rows", models.IntegerField(help_text="How many sealed rows it has.")),
                (
                    "digest",
                    models.CharField(help_text="SHA-256 over its sealed rows.", max_length=64),
                ),
                (
                    "previous",
                    models.CharField(blank=True, help_text="The seal before it.", max_length=64),
                ),
                ("key_id", models.CharField(help_text="Which key has sealed it.", max_length=16)),
                (
                    "seal",
                    models.CharField(help_text="HMAC-SHA256 over all of the above.", max_length=64),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("previous",), name="seals_have_no_fork")
                ],
            },
        ),
        migrations.CreateModel(
            name="SealedRow",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(help_text="As in `fulfillment.audit.logs`.", max_length=20),
                ),
                (
                    "row_id",
                    models.BigIntegerField(
                        help_text="Of the order's fulfillment, or of the log's row."
                    ),
                ),
                (
                    "sequence",
                    models.IntegerField(
                        help_text="Of a chain its newest row; of commands, how many."
                    ),
                ),
                ("digest", models.CharField(max_length=64)),
                (
                    "of",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="sealed",
                        to="fulfillment.auditseal",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["kind", "row_id", "of"], name="seals_by_row")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("of", "kind", "row_id"), name="sealed_once_by_a_seal"
                    )
                ],
            },
        ),
        migrations.RunSQL(STATES, NO_STATES),
        migrations.RunSQL(HEADS, NO_HEADS),
        migrations.RunSQL(APPEND_ONLY, KEPT_NO_MORE),
    ]
