"""Who may do what and where, every decision about it, and what needs a second person."""

from __future__ import annotations

import django.db.models.deletion
import django_fsm
from django.conf import settings
from django.db import migrations, models

import fulfillment.actions
import fulfillment.models.authority
import fulfillment.states

# What was decided stays, and so does what was done; see 0002.
APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfillment_authoritydecision
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON fulfillment_authoritydecision FROM oms_app;
    END IF;
END $$;
"""
UNDO = "DROP TRIGGER append_only ON fulfillment_authoritydecision"
# An approval is for what was asked for, by somebody else than whoever has asked, in time, and once.
FOUR_EYES = """
CREATE FUNCTION fulfillment_guard_approval() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'REQUESTED' OR NEW.decided_by_id IS NOT NULL THEN
            wrong := 'an approval begins with a request';
        END IF;
    ELSIF TG_OP <> 'UPDATE' THEN
        wrong := 'approvals are kept';
    ELSIF OLD.state <> 'REQUESTED' THEN
        wrong := 'it is decided, and used once';
    ELSIF (NEW.id, NEW.action, NEW.subject, NEW.fulfillment_id, NEW.needs, NEW.payload,
            NEW.payload_hash, NEW.version, NEW.told, NEW.requested_by_id, NEW.requested_at,
            NEW.expires_at)
        IS DISTINCT FROM (OLD.id, OLD.action, OLD.subject, OLD.fulfillment_id, OLD.needs,
            OLD.payload, OLD.payload_hash, OLD.version, OLD.told, OLD.requested_by_id,
            OLD.requested_at, OLD.expires_at) THEN
        wrong := 'what was asked for stays as it was asked for';
    ELSIF NEW.state IN ('EXECUTED', 'REFUSED')
        AND (NEW.decided_by_id IS NULL OR NEW.decided_by_id = OLD.requested_by_id) THEN
        wrong := 'another person decides it';
    ELSIF NEW.state = 'EXECUTED' AND NEW.decided_at > OLD.expires_at THEN
        wrong := 'it has expired';
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'approval %: % refused: %', coalesce(OLD.id, NEW.id), TG_OP, wrong
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER four_eyes BEFORE INSERT OR UPDATE OR DELETE ON fulfillment_approval
    FOR EACH ROW EXECUTE FUNCTION fulfillment_guard_approval();
CREATE TRIGGER kept BEFORE TRUNCATE ON fulfillment_approval
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        REVOKE DELETE, TRUNCATE ON fulfillment_approval FROM oms_app;
    END IF;
END $$;
"""
UNDO_FOUR_EYES = """
DROP TRIGGER four_eyes ON fulfillment_approval;
DROP TRIGGER kept ON fulfillment_approval;
DROP FUNCTION fulfillment_guard_approval();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("fulfillment", "0026_giving_up"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AuthorityDecision",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("actor", models.CharField(max_length=150)),
                ("actor_kind", models.CharField(max_length=10)),
                ("user_id", models.BigIntegerField(null=True)),
                ("action", models.CharField(max_length=60)),
                ("subject", models.CharField(max_length=300)),
                ("context", models.JSONField(default=dict)),
                ("is_allowed", models.BooleanField()),
                ("why", models.TextField(help_text="Which grant covers it, or what is missing.")),
                ("decided_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Grant",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("actions", models.JSONField(help_text='Names such as "task.retry", or "task.*".')),
                ("targets", models.JSONField(blank=True, default=list)),
                ("domains", models.JSONField(blank=True, default=list)),
                ("regions", models.JSONField(blank=True, default=list)),
                ("products", models.JSONField(blank=True, default=list)),
                (
                    "maximum_amount",
                    models.DecimalField(blank=True, decimal_places=4, max_digits=20, null=True),
                ),
                ("currency", models.CharField(blank=True, default="", max_length=3)),
                ("valid_from", models.DateTimeField(blank=True, null=True)),
                ("valid_until", models.DateTimeField(blank=True, null=True)),
                ("reason", models.TextField()),
                ("granted_by", models.CharField(max_length=150)),
                ("granted_at", models.DateTimeField()),
            ],
        ),
        migrations.AlterModelOptions(
            name="operation",
            options={
                "permissions": [(one.codename, one.words) for one in fulfillment.actions.Action]
            },
        ),
        migrations.AddField(
            model_name="operation",
            name="authority",
            field=models.TextField(
                blank=True, db_default="", default="", help_text="By what it was allowed."
            ),
        ),
        migrations.AddField(
            model_name="operation",
            name="customer_impact",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="operation",
            name="evidence",
            field=models.TextField(
                blank=True, db_default="", default="", help_text="Where what it rests on is seen."
            ),
        ),
        migrations.AddField(
            model_name="operation",
            name="financial_impact",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="operation",
            name="order_reference",
            field=models.CharField(blank=True, db_default="", default="", max_length=40),
        ),
        migrations.AddField(
            model_name="targetsystem",
            name="domain",
            field=models.CharField(
                choices=[(one, one) for one in fulfillment.states.Domain],
                db_default=fulfillment.states.Domain["OTHER"],
                default=fulfillment.states.Domain["OTHER"],
                help_text="What kind of system it is, and so who approves what is done by hand.",
                max_length=20,
            ),
        ),
        migrations.CreateModel(
            name="Approval",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("action", models.CharField(max_length=60)),
                ("subject", models.CharField(max_length=300)),
                (
                    "state",
                    django_fsm.FSMField(
                        choices=[(one, one) for one in fulfillment.models.authority.ApprovalState],
                        default=fulfillment.models.authority.ApprovalState["REQUESTED"],
                        max_length=50,
                        protected=True,
                    ),
                ),
                (
                    "needs",
                    models.CharField(help_text="The action that approves it.", max_length=60),
                ),
                (
                    "payload",
                    models.JSONField(
                        help_text="Its parameters, reason and evidence, as they were given."
                    ),
                ),
                ("payload_hash", models.CharField(max_length=64)),
                (
                    "version",
                    models.CharField(
                        help_text="Of the subject, when it was asked for.", max_length=64
                    ),
                ),
                ("told", models.TextField(help_text="What it will do, as it was previewed.")),
                ("requested_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("decision_reason", models.TextField(blank=True, default="")),
                (
                    "decided_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "fulfillment",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="approvals",
                        to="fulfillment.fulfillment",
                    ),
                ),
                (
                    "requested_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="operation",
            name="approval",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="operations",
                to="fulfillment.approval",
            ),
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(fields=["order_reference", "-id"], name="operation_by_order"),
        ),
        migrations.AddIndex(
            model_name="authoritydecision",
            index=models.Index(fields=["subject", "-id"], name="decision_by_subject"),
        ),
        migrations.AddIndex(
            model_name="authoritydecision",
            index=models.Index(
                condition=models.Q(("is_allowed", False)), fields=["-id"], name="decision_denied"
            ),
        ),
        migrations.AddField(
            model_name="grant",
            name="group",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="grants",
                to="auth.group",
            ),
        ),
        migrations.AddField(
            model_name="grant",
            name="user",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="grants",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddIndex(
            model_name="approval",
            index=models.Index(fields=["state", "-id"], name="approval_as_listed"),
        ),
        migrations.AddIndex(
            model_name="approval",
            index=models.Index(
                condition=models.Q(
                    ("state", fulfillment.models.authority.ApprovalState["REQUESTED"])
                ),
                fields=["expires_at"],
                name="approval_expiring",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        ["REQUESTED", "EXECUTED", "REFUSED", "WITHDRAWN", "EXPIRED", "STALE"],
                    )
                ),
                name="approval_state_is_legal",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("decided_by__isnull", True),
                    models.Q(("decided_by", models.F("requested_by")), _negated=True),
                    ("state", fulfillment.models.authority.ApprovalState["WITHDRAWN"]),
                    _connector="OR",
                ),
                name="approval_needs_two_people",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("state", fulfillment.models.authority.ApprovalState["EXECUTED"]),
                        _negated=True,
                    ),
                    models.Q(("decided_at__isnull", False), ("decided_by__isnull", False)),
                    _connector="OR",
                ),
                name="approval_is_executed_by_somebody",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("state", fulfillment.models.authority.ApprovalState["REQUESTED"])
                ),
                fields=("action", "subject", "payload_hash"),
                name="one_open_approval_for_the_same",
            ),
        ),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("user__isnull", True), ("group__isnull", True), _connector="XOR"
                ),
                name="grant_is_for_a_user_or_a_group",
            ),
        ),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("maximum_amount__isnull", True),
                    models.Q(("currency", ""), _negated=True),
                    _connector="OR",
                ),
                name="grant_amount_has_a_currency",
            ),
        ),
        migrations.RunSQL(APPEND_ONLY, UNDO),
        migrations.RunSQL(FOUR_EYES, UNDO_FOUR_EYES),
    ]
