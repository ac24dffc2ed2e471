"""What orders use alone, and in which order customers are served."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0014_patience"),
    ]

    operations = [
        migrations.CreateModel(
            name="LockRelease",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="Resource",
            fields=[
                ("name", models.CharField(max_length=64, primary_key=True, serialize=False)),
                (
                    "kept_by",
                    models.CharField(
                        choices=[
                            ("PLAN", "the order, to its end"),
                            ("TASK", "the task, to its end"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "capacity",
                    models.PositiveIntegerField(
                        default=1,
                        help_text="Units in use at once, of each single one of its kind.",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ResourceLock",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(help_text="Such as customer:C-17.", max_length=200)),
                ("units", models.PositiveIntegerField(default=1)),
                ("taken_at", models.DateTimeField()),
            ],
        ),
        migrations.RemoveIndex(
            model_name="task",
            name="task_claim_order",
        ),
        migrations.AddField(
            model_name="fulfillment",
            name="rank",
            field=models.BigIntegerField(
                db_default=0,
                default=0,
                help_text="Its customer's fair share: the lower goes first.",
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="is_locked",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="plan",
            name="locks",
            field=models.JSONField(
                blank=True, help_text="What it keeps locked from its first command on.", null=True
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="locks",
            field=models.JSONField(
                blank=True,
                help_text="What it has to lock before it is sent: name, units.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="rank",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="task",
            name="waits_for_lock",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="The lock that a claim has met; until then it is out of the way.",
                max_length=200,
            ),
        ),
        migrations.AddIndex(
            model_name="fulfillment",
            index=models.Index(fields=["customer", "-rank"], name="fulfillment_fair_share"),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("target"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("rank"),
                models.F("depth"),
                models.F("id"),
                condition=models.Q(
                    ("held_by__isnull", True),
                    ("state__in", ["FAILED_RETRYABLE", "READY"]),
                    ("waits_for_lock", ""),
                ),
                name="task_claim_order",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("waits_for_lock"),
                models.F("target"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("rank"),
                models.F("depth"),
                models.F("id"),
                condition=models.Q(("waits_for_lock", ""), _negated=True),
                name="task_lock_order",
            ),
        ),
        migrations.AddConstraint(
            model_name="resource",
            constraint=models.CheckConstraint(
                condition=models.Q(("capacity__gte", 1)), name="resource_has_a_capacity"
            ),
        ),
        migrations.AddConstraint(
            model_name="resource",
            constraint=models.CheckConstraint(
                condition=models.Q(("kept_by__in", ["PLAN", "TASK"])),
                name="resource_kept_by_is_legal",
            ),
        ),
        migrations.AddField(
            model_name="resourcelock",
            name="fulfillment",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                to="fulfillment.fulfillment",
            ),
        ),
        migrations.AddField(
            model_name="resourcelock",
            name="plan",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                to="fulfillment.plan",
            ),
        ),
        migrations.AddField(
            model_name="resourcelock",
            name="task",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                help_text="Empty: the whole plan keeps it.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                to="fulfillment.task",
            ),
        ),
        migrations.AddIndex(
            model_name="resourcelock",
            index=models.Index(fields=["plan", "task"], name="lock_by_holder"),
        ),
        migrations.AddConstraint(
            model_name="resourcelock",
            constraint=models.UniqueConstraint(
                fields=("name", "plan", "task"), name="one_lock_per_holder", nulls_distinct=False
            ),
        ),
    ]
