"""Cancelling orders, and what an asset was before a change that may be undone."""

from __future__ import annotations

import django.db.models.deletion
import django_fsm
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0025_no_statistics_of_documents"),
        ("oms", "0007_lists_by_index"),
    ]

    operations = [
        migrations.CreateModel(
            name="CancellationRequest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField(help_text="From 1, within the order.")),
                (
                    "state",
                    django_fsm.FSMField(
                        choices=[
                            ("ASSESSING", "ASSESSING"),
                            ("DENIED", "DENIED"),
                            ("UNDOING", "UNDOING"),
                            ("DONE", "DONE"),
                        ],
                        default="ASSESSING",
                        max_length=50,
                        protected=True,
                    ),
                ),
                ("requested_by", models.CharField(max_length=150)),
                ("reason", models.TextField()),
                (
                    "order_state_before",
                    models.CharField(
                        choices=[
                            ("SUBMITTED", "SUBMITTED"),
                            ("VALIDATING", "VALIDATING"),
                            ("REJECTED", "REJECTED"),
                            ("READY_FOR_FULFILLMENT", "READY_FOR_FULFILLMENT"),
                            ("IN_PROGRESS", "IN_PROGRESS"),
                            ("COMPLETED", "COMPLETED"),
                            ("PARTIALLY_COMPLETED", "PARTIALLY_COMPLETED"),
                            ("FAILED", "FAILED"),
                            ("ASSESSING_CANCELLATION", "ASSESSING_CANCELLATION"),
                            ("CANCELLING", "CANCELLING"),
                            ("CANCELLED", "CANCELLED"),
                        ],
                        max_length=40,
                    ),
                ),
                (
                    "quote",
                    models.JSONField(
                        default=dict,
                        help_text="What it undoes, at what cost: as it was decided.",
                    ),
                ),
                (
                    "refusals",
                    models.JSONField(blank=True, default=list, help_text="Why it was denied."),
                ),
                ("requested_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.RemoveConstraint(
            model_name="billingmatch",
            name="one_of_both_is_there",
        ),
        migrations.AddField(
            model_name="asset",
            name="before",
            field=models.JSONField(
                blank=True,
                db_default=[],
                default=list,
                help_text="How it was before each change by an order that may still be undone.",
            ),
        ),
        migrations.AddConstraint(
            model_name="billingmatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("service_at__isnull", False),
                    ("billed_at__isnull", False),
                    ("filed", True),
                    _connector="OR",
                ),
                name="one_of_both_is_there",
            ),
        ),
        migrations.AddField(
            model_name="cancellationrequest",
            name="order",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="cancellations",
                to="oms.order",
            ),
        ),
        migrations.AddField(
            model_name="cancellationrequest",
            name="plan",
            field=models.ForeignKey(
                blank=True,
                help_text="The plan that undoes what was done.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="fulfillment.plan",
            ),
        ),
        migrations.AddConstraint(
            model_name="cancellationrequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["ASSESSING", "DENIED", "UNDOING", "DONE"])),
                name="cancellation_state_is_legal",
            ),
        ),
        migrations.AddConstraint(
            model_name="cancellationrequest",
            constraint=models.UniqueConstraint(
                fields=("order", "number"), name="one_cancellation_per_number"
            ),
        ),
        migrations.AddConstraint(
            model_name="cancellationrequest",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ["ASSESSING", "UNDOING"])),
                fields=("order",),
                name="one_open_cancellation",
            ),
        ),
        migrations.AddConstraint(
            model_name="cancellationrequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason", ""), _negated=True), name="cancellation_says_why"
            ),
        ),
    ]
