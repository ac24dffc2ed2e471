"""One operation over many subjects: jobs, their rows, and where these are."""

from __future__ import annotations

import datetime

import django.db.models.deletion
import django_fsm
from django.conf import settings
from django.db import migrations, models

import fulfillment.models.bulk


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0030_audit_guard"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BulkJob",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("action", models.CharField(max_length=60)),
                ("parameters", models.JSONField(default=dict)),
                ("reason", models.TextField()),
                ("evidence", models.TextField(blank=True, default="")),
                (
                    "selection",
                    models.JSONField(help_text="How its rows were chosen: kept for the record."),
                ),
                (
                    "digest",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Of what is done, to what, as it was looked at; empty: not "
                        "looked at yet.",
                        max_length=64,
                    ),
                ),
                (
                    "state",
                    django_fsm.FSMField(
                        choices=[(one, one) for one in fulfillment.models.bulk.BulkState],
                        default="DRAFT",
                        max_length=50,
                        protected=True,
                    ),
                ),
                ("state_reason", models.TextField(blank=True, default="")),
                ("canary", models.PositiveIntegerField(help_text="How many are done first.")),
                (
                    "stages",
                    models.JSONField(help_text="Then so many percent of all, one after the other."),
                ),
                (
                    "ends",
                    models.JSONField(
                        default=list, help_text="By stage, the last position that it takes."
                    ),
                ),
                ("stage", models.PositiveSmallIntegerField(default=0, help_text="0: the canary.")),
                (
                    "goes_on",
                    models.BooleanField(
                        help_text="After a stage that went well, without being asked."
                    ),
                ),
                (
                    "most_failures",
                    models.PositiveIntegerField(help_text="With more of them it stops."),
                ),
                (
                    "most_failures_percent",
                    models.PositiveSmallIntegerField(
                        help_text="Of those that were tried; with more it stops."
                    ),
                ),
                (
                    "forgiven",
                    models.PositiveIntegerField(
                        default=0, help_text="Failures that somebody knew of who let it go on."
                    ),
                ),
                (
                    "forgiven_of",
                    models.PositiveIntegerField(default=0, help_text="Of so many tried."),
                ),
                (
                    "known_within",
                    models.DurationField(
                        default=datetime.timedelta(seconds=3600),
                        help_text="How long to wait for what comes of a row.",
                    ),
                ),
                ("actor", models.CharField(max_length=150)),
                ("actor_kind", models.CharField(max_length=10)),
                ("drafted_at", models.DateTimeField()),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("changed_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "approval",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="fulfillment.approval",
                    ),
                ),
                (
                    "incident",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="jobs",
                        to="fulfillment.incident",
                    ),
                ),
                (
                    "requested_by",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkPlace",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(help_text="A hash of the context.", max_length=64)),
                ("context", models.JSONField()),
                (
                    "job",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="places",
                        to="fulfillment.bulkjob",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkRow",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "position",
                    models.PositiveIntegerField(
                        help_text="From 1, in the order in which they are done."
                    ),
                ),
                ("subject", models.CharField(max_length=300)),
                (
                    "subject_pk",
                    models.BigIntegerField(default=0, help_text="0: not looked at yet."),
                ),
                (
                    "state",
                    django_fsm.FSMField(
                        choices=[(one, one) for one in fulfillment.models.bulk.RowState],
                        default="PENDING",
                        max_length=50,
                        protected=True,
                    ),
                ),
                (
                    "foreseen",
                    models.CharField(
                        blank=True,
                        choices=[(s, s.name.lower()) for s in fulfillment.models.bulk.Foreseen],
                        default="",
                        max_length=10,
                    ),
                ),
                (
                    "foretold",
                    models.TextField(
                        blank=True,
                        default="",
                        help_text="What it would do, or why it can't be done.",
                    ),
                ),
                (
                    "version",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Of the subject, when it was looked at.",
                        max_length=64,
                    ),
                ),
                (
                    "told",
                    models.TextField(
                        blank=True, default="", help_text="What was done, or why not."
                    ),
                ),
                (
                    "code",
                    models.CharField(
                        blank=True, default="", help_text="Of an error.", max_length=100
                    ),
                ),
                ("leased_until", models.DateTimeField(blank=True, null=True)),
                (
                    "tries",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="Workers that have taken it and were not heard of again.",
                    ),
                ),
                ("done_at", models.DateTimeField(blank=True, null=True)),
                (
                    "look_at",
                    models.DateTimeField(
                        blank=True, help_text="When it is next asked what came of it.", null=True
                    ),
                ),
                ("known_at", models.DateTimeField(blank=True, null=True)),
                (
                    "job",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rows",
                        to="fulfillment.bulkjob",
                    ),
                ),
                (
                    "operation",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="fulfillment.operation",
                    ),
                ),
                (
                    "place",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="rows",
                        to="fulfillment.bulkplace",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="bulkjob",
            index=models.Index(
                condition=models.Q(
                    ("state__in", ["RUNNING", "RUNNING_CANARY"]),
                    models.Q(("digest", ""), ("state", "DRAFT")),
                    _connector="OR",
                ),
                fields=["id"],
                name="bulk_job_to_work_on",
            ),
        ),
        migrations.AddIndex(
            model_name="bulkjob",
            index=models.Index(fields=["state", "-id"], name="bulk_job_as_listed"),
        ),
        migrations.AddIndex(
            model_name="bulkjob",
            index=models.Index(
                condition=models.Q(("incident__isnull", False)),
                fields=["incident", "-id"],
                name="bulk_job_by_incident",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkjob",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "DRAFT",
                            "RUNNING_CANARY",
                            "RUNNING",
                            "PAUSED",
                            "STOPPED",
                            "COMPLETED",
                            "CANCELLED",
                        ],
                    )
                ),
                name="bulk_job_state_is_legal",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkjob",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ["DRAFT", "CANCELLED"]),
                    ("started_at__isnull", False),
                    _connector="OR",
                ),
                name="bulk_job_has_begun_when_it_runs",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkplace",
            constraint=models.UniqueConstraint(
                fields=("job", "key"), name="one_bulk_place_per_context"
            ),
        ),
        migrations.AddIndex(
            model_name="bulkrow",
            index=models.Index(
                condition=models.Q(("state", "PENDING")),
                fields=["job", "position"],
                name="bulk_row_to_be_done",
            ),
        ),
        migrations.AddIndex(
            model_name="bulkrow",
            index=models.Index(
                condition=models.Q(("foreseen", ""), ("state", "PENDING")),
                fields=["job", "position"],
                name="bulk_row_to_be_foreseen",
            ),
        ),
        migrations.AddIndex(
            model_name="bulkrow",
            index=models.Index(
                condition=models.Q(("state", "DONE")),
                fields=["look_at"],
                name="bulk_row_to_be_known",
            ),
        ),
        migrations.AddIndex(
            model_name="bulkrow",
            index=models.Index(fields=["job", "state", "position"], name="bulk_row_as_listed"),
        ),
        migrations.AddIndex(
            model_name="bulkrow",
            index=models.Index(fields=["job", "position", "id"], name="bulk_row_in_order"),
        ),
        migrations.AddConstraint(
            model_name="bulkrow",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "PENDING",
                            "LEFT_OUT",
                            "DONE",
                            "REFUSED",
                            "FAILED",
                            "VERIFIED",
                            "NOT_VERIFIED",
                        ],
                    )
                ),
                name="bulk_row_state_is_legal",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkrow",
            constraint=models.UniqueConstraint(
                fields=("job", "subject"), name="one_bulk_row_per_subject"
            ),
        ),
    ]
