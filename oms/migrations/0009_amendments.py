"""Orders are amended: requests, what an order was before, and lines that are left out."""

from __future__ import annotations

import django.db.models.deletion
import django_fsm
from django.db import migrations, models

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON oms_orderrevision
    FOR EACH STATEMENT EXECUTE FUNCTION fulfillment_refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON oms_orderrevision FROM oms_app;
    END IF;
END $$;
"""
UNDO = "DROP TRIGGER append_only ON oms_orderrevision;"


class Migration(migrations.Migration):
    dependencies = [
        ("oms", "0008_cancellations"),
        ("fulfillment", "0002_clock_and_append_only"),
    ]

    operations = [
        migrations.AddField(
            model_name="orderitem",
            name="removed_in_version",
            field=models.PositiveIntegerField(
                blank=True, help_text="The order version from which on it is left out.", null=True
            ),
        ),
        migrations.CreateModel(
            name="AmendmentRequest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField(help_text="From 1 within the order.")),
                (
                    "version",
                    models.PositiveIntegerField(help_text="The order version that it makes."),
                ),
                (
                    "state",
                    django_fsm.FSMField(
                        choices=[
                            ("ASSESSING", "ASSESSING"),
                            ("APPLIED", "APPLIED"),
                            ("DENIED", "DENIED"),
                            ("SUPERSEDED", "SUPERSEDED"),
                            ("WAITING_FOR_COMPLETION", "WAITING_FOR_COMPLETION"),
                            ("CHANGE_ORDERED", "CHANGE_ORDERED"),
                        ],
                        default="ASSESSING",
                        max_length=50,
                        protected=True,
                    ),
                ),
                (
                    "mode",
                    models.CharField(
                        choices=[
                            ("auto", "auto"),
                            ("amend", "amend"),
                            ("recreate", "recreate"),
                            ("change_order", "change_order"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "chosen",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("auto", "auto"),
                            ("amend", "amend"),
                            ("recreate", "recreate"),
                            ("change_order", "change_order"),
                        ],
                        help_text="How it comes about; empty when in no way.",
                        max_length=20,
                    ),
                ),
                ("document", models.JSONField(help_text="The revised order, as it was submitted.")),
                ("difference", models.JSONField(default=dict, help_text="What is new about it.")),
                (
                    "assessment",
                    models.JSONField(
                        default=dict,
                        help_text="What becomes of each task, and what it costs, as found last.",
                    ),
                ),
                ("refusals", models.JSONField(blank=True, default=list)),
                ("reason", models.TextField()),
                ("requested_by", models.CharField(max_length=150)),
                ("requested_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "change_order",
                    models.ForeignKey(
                        blank=True,
                        help_text="The order that changes what this one has made.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="made_by",
                        to="oms.order",
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="amendments",
                        to="oms.order",
                    ),
                ),
            ],
            options={
                "ordering": ["order_id", "number"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                [
                                    "ASSESSING",
                                    "APPLIED",
                                    "DENIED",
                                    "SUPERSEDED",
                                    "WAITING_FOR_COMPLETION",
                                    "CHANGE_ORDERED",
                                ],
                            )
                        ),
                        name="amendment_state_is_legal",
                    ),
                    models.UniqueConstraint(
                        fields=("order", "number"), name="one_amendment_per_number"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["ASSESSING", "WAITING_FOR_COMPLETION"])),
                        fields=("order",),
                        name="one_open_amendment",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="OrderRevision",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "version",
                    models.PositiveIntegerField(help_text="The order version that this was."),
                ),
                (
                    "document",
                    models.JSONField(
                        help_text="The order, in the shape in which orders are submitted."
                    ),
                ),
                ("replaced_at", models.DateTimeField()),
                (
                    "order",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="revisions",
                        to="oms.order",
                    ),
                ),
            ],
            options={
                "ordering": ["order_id", "version"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("order", "version"), name="one_revision_per_version"
                    )
                ],
            },
        ),
        migrations.RunSQL(APPEND_ONLY, UNDO),
    ]
