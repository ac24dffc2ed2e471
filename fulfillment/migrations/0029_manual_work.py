"""Manual tasks that are claimed, and what each outcome does."""

from __future__ import annotations

import django.db.models.deletion
import django_fsm
from django.db import migrations, models

import fulfillment.models.base
import fulfillment.models.manual


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0028_cases"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="manualtask",
            name="manual_state_is_legal",
        ),
        migrations.RemoveIndex(
            model_name="manualtask",
            name="manual_due",
        ),
        migrations.RemoveIndex(
            model_name="manualtask",
            name="manual_open_by_queue",
        ),
        migrations.AddField(
            model_name="manualtask",
            name="awaits",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Who has to say something first: customer, or commerce.",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="calendar",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="The business calendar of its time; empty: around the clock.",
                max_length=63,
            ),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="claimed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="claimed_by",
            field=models.CharField(blank=True, db_default="", default="", max_length=150),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="escalated_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="escalations",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="hold",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="That keeps the order until there is a new quote.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="fulfillment.hold",
            ),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="origin",
            field=models.CharField(
                choices=[(one, one) for one in fulfillment.models.manual.ManualOrigin],
                db_default=fulfillment.models.manual.ManualOrigin["WORKFLOW"],
                default=fulfillment.models.manual.ManualOrigin["WORKFLOW"],
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="question",
            field=models.TextField(
                blank=True, db_default="", default="", help_text="What they were asked last."
            ),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="stopped_at",
            field=models.DateTimeField(
                blank=True, help_text="Since when its time stands still.", null=True
            ),
        ),
        migrations.AddField(
            model_name="manualtask",
            name="trouble",
            field=models.CharField(
                blank=True,
                choices=[(one, one) for one in fulfillment.models.manual.Trouble],
                db_default=fulfillment.models.manual.Trouble["NONE"],
                default=fulfillment.models.manual.Trouble["NONE"],
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="manualtask",
            name="outcomes",
            field=fulfillment.models.base.AsWritten(help_text="Outcome -> what it does."),
        ),
        migrations.AlterField(
            model_name="manualtask",
            name="role",
            field=models.CharField(
                blank=True,
                help_text="The group whose members decide it; empty: whoever else may.",
                max_length=63,
            ),
        ),
        migrations.AlterField(
            model_name="manualtask",
            name="state",
            field=django_fsm.FSMField(
                choices=[(one, one) for one in fulfillment.models.manual.ManualState],
                default=fulfillment.models.manual.ManualState["OPEN"],
                max_length=50,
                protected=True,
            ),
        ),
        migrations.AlterField(
            model_name="manualtask",
            name="task",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="manual_tasks",
                to="fulfillment.task",
            ),
        ),
        migrations.AddIndex(
            model_name="manualtask",
            index=models.Index(fields=["task"], name="manual_by_task"),
        ),
        migrations.AddIndex(
            model_name="manualtask",
            index=models.Index(
                condition=models.Q(("state__in", ["CLAIMED", "OPEN"])),
                fields=["due_at"],
                name="manual_due_by",
            ),
        ),
        migrations.AddIndex(
            model_name="manualtask",
            index=models.Index(
                condition=models.Q(("state__in", ["AWAITING_CUSTOMER", "CLAIMED", "OPEN"])),
                fields=["queue", "opened_at"],
                name="manual_to_do_by_queue",
            ),
        ),
        migrations.AddIndex(
            model_name="manualtask",
            index=models.Index(
                condition=models.Q(("state", "CLAIMED")),
                fields=["claimed_by", "due_at"],
                name="manual_of_person",
            ),
        ),
        migrations.AddIndex(
            model_name="manualtask",
            index=models.Index(
                condition=models.Q(("state", "AWAITING_CUSTOMER")),
                fields=["fulfillment"],
                name="manual_awaiting",
            ),
        ),
        migrations.AddConstraint(
            model_name="manualtask",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ["OPEN", "CLAIMED", "AWAITING_CUSTOMER", "DECIDED", "WITHDRAWN"])
                ),
                name="manual_state_is_legal",
            ),
        ),
        migrations.AddConstraint(
            model_name="manualtask",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ["AWAITING_CUSTOMER", "CLAIMED", "OPEN"])),
                fields=("task",),
                name="one_open_manual_task_per_task",
            ),
        ),
    ]
