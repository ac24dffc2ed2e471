"""Cases with states of their own and several tasks, incidents, routing."""

from __future__ import annotations

from datetime import timedelta

import django_fsm
from django.db import migrations, models
from django.db.models.functions import Coalesce, Now

import fulfillment.models.case
import fulfillment.models.incident

_UNRESOLVED = ~models.Q(state="RESOLVED")
_CAUSES = """
UPDATE fulfillment_falloutcase
SET target = left(facts ->> 'target', 100), action = left(coalesce(facts ->> 'action', ''), 100),
    fingerprint = left(encode(sha256(convert_to(
        (facts ->> 'target') || E'\\n' || coalesce(facts ->> 'action', '') || E'\\n' || reason_code,
        'UTF8')), 'hex'), 32)
WHERE coalesce(facts ->> 'target', '') <> ''
"""
_TASKS = """
WITH known AS (
    INSERT INTO fulfillment_casetask (case_id, task_id, title, explanation, facts, joined_at,
                                      left_because)
    SELECT id, task_id, title, explanation, facts, opened_at, '' FROM fulfillment_falloutcase
    WHERE state <> 'RESOLVED' AND subject = 'task:' || task_id
    RETURNING case_id
)
UPDATE fulfillment_falloutcase SET tasks_open = 1, tasks_total = 1
WHERE id IN (SELECT case_id FROM known)
"""
_NOBODY = """
UPDATE fulfillment_falloutcase SET state = 'OPEN', assigned_to = ''
WHERE state NOT IN ('OPEN', 'RESOLVED')
"""


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0027_authority"),
    ]

    operations = [
        migrations.CreateModel(
            name="CaseTask",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("title", models.CharField(max_length=300)),
                ("explanation", models.TextField()),
                ("facts", models.JSONField(default=dict)),
                ("joined_at", models.DateTimeField()),
                ("left_at", models.DateTimeField(blank=True, null=True)),
                ("left_because", models.TextField(blank=True, default="")),
            ],
        ),
        migrations.CreateModel(
            name="Incident",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "state",
                    django_fsm.FSMField(
                        choices=[(one, one) for one in fulfillment.models.incident.IncidentState],
                        default=fulfillment.models.incident.IncidentState.OPEN,
                        max_length=50,
                        protected=True,
                    ),
                ),
                ("fingerprint", models.CharField(max_length=32)),
                ("target", models.CharField(blank=True, default="", max_length=100)),
                ("action", models.CharField(blank=True, default="", max_length=100)),
                ("reason_code", models.CharField(max_length=100)),
                ("title", models.CharField(max_length=300)),
                (
                    "severity",
                    models.CharField(
                        choices=[(one, one) for one in fulfillment.models.incident.Severity],
                        max_length=10,
                    ),
                ),
                ("owner_queue", models.CharField(max_length=60)),
                (
                    "assigned_to",
                    models.CharField(
                        blank=True, default="", help_text="User name.", max_length=150
                    ),
                ),
                ("cause", models.TextField(blank=True, default="", help_text="What was found.")),
                (
                    "fix",
                    models.TextField(blank=True, default="", help_text="What was done about it."),
                ),
                ("opened_at", models.DateTimeField()),
                ("releasing_since", models.DateTimeField(blank=True, null=True)),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("resolved_by", models.CharField(blank=True, default="", max_length=150)),
            ],
        ),
        migrations.CreateModel(
            name="RoutingRule",
            fields=[
                ("name", models.SlugField(max_length=63, primary_key=True, serialize=False)),
                (
                    "position",
                    models.PositiveIntegerField(help_text="The lowest is looked at first."),
                ),
                ("category", models.CharField(blank=True, default="", max_length=20)),
                ("target", models.CharField(blank=True, default="", max_length=100)),
                ("action", models.CharField(blank=True, default="", max_length=100)),
                ("reason_code", models.CharField(blank=True, default="", max_length=100)),
                ("owner_queue", models.CharField(max_length=60)),
                ("role", models.CharField(blank=True, default="", max_length=100)),
                (
                    "severity",
                    models.CharField(
                        blank=True,
                        choices=[(one, one) for one in fulfillment.models.incident.Severity],
                        default="",
                        help_text="Empty: as the engine has found it.",
                        max_length=10,
                    ),
                ),
                (
                    "sla",
                    models.DurationField(
                        blank=True,
                        help_text="Working time of the calendar; empty: as is usual.",
                        null=True,
                    ),
                ),
                (
                    "calendar",
                    models.CharField(
                        blank=True, default="", help_text="Empty: day and night.", max_length=63
                    ),
                ),
                ("escalation_queue", models.CharField(blank=True, default="", max_length=60)),
                ("updated_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "ordering": ["position", "name"],
            },
        ),
        migrations.RemoveConstraint(
            model_name="falloutcase",
            name="case_state_is_legal",
        ),
        migrations.RemoveConstraint(
            model_name="falloutcase",
            name="one_open_case_per_subject",
        ),
        migrations.RemoveIndex(
            model_name="falloutcase",
            name="case_open_by_fulfillment",
        ),
        migrations.RemoveIndex(
            model_name="falloutcase",
            name="case_as_listed",
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="action",
            field=models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="assigned_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="assigned_to",
            field=models.CharField(
                blank=True, db_default="", default="", help_text="User name.", max_length=150
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="customer_asked",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="customer_awaited_since",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="escalated_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="escalates_at",
            field=models.DateTimeField(
                blank=True, help_text="When it is escalated next; empty: when it is due.", null=True
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="escalation_level",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="escalation_queue",
            field=models.CharField(blank=True, db_default="", default="", max_length=60),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="fingerprint",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of target, action and reason code; empty: no cause in common "
                "with others.",
                max_length=32,
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="revenue",
            field=models.JSONField(
                db_default=models.Value({}, output_field=models.JSONField()),
                default=dict,
                help_text='By item: {"1": {"IDR": ["once", "recurring"]}}, amounts as text.',
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="revenue_amount",
            field=models.DecimalField(blank=True, decimal_places=4, max_digits=20, null=True),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="revenue_currency",
            field=models.CharField(blank=True, db_default="", default="", max_length=3),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="role",
            field=models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="sla_calendar",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Empty: day and night.",
                max_length=63,
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="sla_left",
            field=models.DurationField(
                blank=True, help_text="Working time left when its clock was stopped.", null=True
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="sla_paused_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="sla_within",
            field=models.DurationField(
                db_default=timedelta(hours=4),
                default=timedelta(hours=4),
                help_text="Working time of its calendar; after each further one it is "
                "escalated again.",
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="target",
            field=models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="tasks_open",
            field=models.PositiveIntegerField(
                db_default=0,
                default=0,
                help_text="Tasks that it is about, and that have not got on.",
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="tasks_total",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="falloutcase",
            name="repair_options",
            field=models.JSONField(
                default=list,
                help_text="What may help with this kind of trouble: names of operations.",
            ),
        ),
        migrations.AlterField(
            model_name="falloutcase",
            name="state",
            field=django_fsm.FSMField(
                choices=[(one, one) for one in fulfillment.models.case.CaseState],
                default=fulfillment.models.case.CaseState.OPEN,
                max_length=50,
                protected=True,
            ),
        ),
        migrations.AddField(
            model_name="casetask",
            name="case",
            field=models.ForeignKey(
                db_index=False,
                on_delete=models.PROTECT,
                related_name="tasks",
                to="fulfillment.falloutcase",
            ),
        ),
        migrations.AddField(
            model_name="casetask",
            name="task",
            field=models.ForeignKey(
                db_index=False,
                on_delete=models.PROTECT,
                related_name="case_tasks",
                to="fulfillment.task",
            ),
        ),
        migrations.AddIndex(
            model_name="incident",
            index=models.Index(
                models.OrderBy(models.F("resolved_at"), descending=True, nulls_first=True),
                models.OrderBy(models.F("id"), descending=True),
                name="incident_as_listed",
            ),
        ),
        migrations.AddConstraint(
            model_name="incident",
            constraint=models.CheckConstraint(
                condition=models.Q(state__in=["OPEN", "RELEASING", "RESOLVED"]),
                name="incident_state_is_legal",
            ),
        ),
        migrations.AddConstraint(
            model_name="incident",
            constraint=models.UniqueConstraint(
                condition=_UNRESOLVED, fields=("fingerprint",), name="one_open_incident_per_cause"
            ),
        ),
        migrations.AddField(
            model_name="falloutcase",
            name="incident",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=models.PROTECT,
                related_name="cases",
                to="fulfillment.incident",
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                condition=_UNRESOLVED, fields=["fulfillment"], name="case_open_by_fulfillment"
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                models.OrderBy(models.F("resolved_at"), descending=True, nulls_first=True),
                models.F("sla_due_at"),
                models.OrderBy(models.F("id"), descending=True),
                name="case_as_listed",
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(condition=_UNRESOLVED, fields=["id"], name="case_open"),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                condition=_UNRESOLVED,
                fields=["owner_queue", "sla_due_at"],
                name="case_open_by_queue",
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                condition=_UNRESOLVED & ~models.Q(assigned_to=""),
                fields=["assigned_to", "sla_due_at"],
                name="case_open_by_person",
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                fields=["incident", "id"],
                condition=models.Q(incident__isnull=False),
                name="case_by_incident",
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                fields=["state", "-resolved_at", "sla_due_at", "-id"], name="case_by_state"
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                fields=["id"], condition=models.Q(state="RESOLVED"), name="case_closed"
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(fields=["fulfillment", "id"], name="case_by_order"),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                condition=_UNRESOLVED & models.Q(incident__isnull=True) & ~models.Q(fingerprint=""),
                fields=["fingerprint"],
                name="case_of_no_incident",
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                condition=models.Q(state="RESOLVED") & ~models.Q(fingerprint=""),
                fields=["fingerprint", "-resolved_at"],
                name="case_fixed_last",
            ),
        ),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                Coalesce("escalates_at", "sla_due_at"),
                condition=_UNRESOLVED
                & models.Q(sla_paused_at__isnull=True, escalation_level__lt=5),
                name="case_escalates",
            ),
        ),
        migrations.AddConstraint(
            model_name="falloutcase",
            constraint=models.CheckConstraint(
                condition=models.Q(state__in=["OPEN", "ASSIGNED", "AWAITING_CUSTOMER", "RESOLVED"]),
                name="case_state_is_legal",
            ),
        ),
        migrations.AddConstraint(
            model_name="falloutcase",
            constraint=models.UniqueConstraint(
                condition=_UNRESOLVED, fields=("subject",), name="one_open_case_per_subject"
            ),
        ),
        migrations.AddConstraint(
            model_name="falloutcase",
            constraint=models.CheckConstraint(
                condition=models.Q(state__in=["OPEN", "RESOLVED"]) | ~models.Q(assigned_to=""),
                name="case_is_assigned_to_somebody",
            ),
        ),
        migrations.AddIndex(
            model_name="casetask",
            index=models.Index(fields=["case", "id"], name="case_tasks"),
        ),
        migrations.AddConstraint(
            model_name="casetask",
            constraint=models.UniqueConstraint(
                condition=models.Q(left_at__isnull=True),
                fields=("task",),
                name="one_open_case_per_task",
            ),
        ),
        migrations.RunSQL(sql=_CAUSES, reverse_sql=migrations.RunSQL.noop),
        migrations.RunSQL(sql=_TASKS, reverse_sql=_NOBODY),
    ]
