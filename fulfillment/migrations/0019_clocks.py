"""By when a task has to be sent and to end, by when its plan; what is heard of it meanwhile."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

from fulfillment.models import CaseCategory

_OVER = ["CANCELLED", "COMPLETED", "FAILED", "SUPERSEDED"]


def _moment(what: str) -> models.DateTimeField[Any, Any]:
    return models.DateTimeField(blank=True, help_text=what, null=True)


def _hold(what: str) -> models.ForeignKey[Any, Any]:
    return models.ForeignKey(
        blank=True,
        db_constraint=False,
        db_index=False,
        help_text=what,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        to="fulfillment.hold",
    )


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0018_jeopardy")]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="finish_by",
            field=_moment("Its deadline; a person is told when that passes."),
        ),
        migrations.AddField(
            model_name="plan",
            name="late_since",
            field=_moment("Its deadline has passed, and a person was told."),
        ),
        migrations.AddField(
            model_name="plan",
            name="stopped_at",
            field=_moment("Since when its deadline stands still."),
        ),
        migrations.AddField(
            model_name="plan",
            name="stopped_by",
            field=_hold("The hold that stops it; empty: a wait for the customer."),
        ),
        migrations.AddField(
            model_name="task",
            name="start_by",
            field=_moment("By when its first send has to begin."),
        ),
        migrations.AddField(
            model_name="task",
            name="close_by",
            field=_moment("By when it has to end, however often it is tried."),
        ),
        migrations.AddField(
            model_name="task",
            name="late_since",
            field=_moment("It should have ended by then; what follows has begun."),
        ),
        migrations.AddField(
            model_name="task",
            name="stopped_at",
            field=_moment("Since when these clocks stand still."),
        ),
        migrations.AddField(
            model_name="task",
            name="stopped_by",
            field=_hold("The hold that stops them."),
        ),
        migrations.AddField(
            model_name="task",
            name="report_by",
            field=_moment("By when its last send has to have a result."),
        ),
        migrations.AddField(
            model_name="task",
            name="heard_at",
            field=_moment(
                "When its last send was alive last, by the target system's clock if it tells."
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="progress",
            field=models.JSONField(
                blank=True,
                help_text="How far the target system came, by its own account; told to it with "
                "the next send.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="falloutcase",
            name="category",
            field=models.CharField(
                choices=[(category, category) for category in CaseCategory], max_length=20
            ),
        ),
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                condition=models.Q(stopped_by__isnull=False),
                fields=["stopped_by"],
                name="plan_stopped",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(stopped_by__isnull=False),
                fields=["stopped_by"],
                name="task_stopped",
            ),
        ),
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                condition=models.Q(finish_by__isnull=False, stopped_at__isnull=True)
                & ~models.Q(state__in=_OVER),
                fields=["finish_by"],
                name="plan_deadline",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(
                    state__in=["FAILED_RETRYABLE", "READY"],
                    start_by__isnull=False,
                    stopped_at__isnull=True,
                ),
                fields=["start_by"],
                name="task_start_due",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(
                    state__in=["ACCEPTED", "FAILED_RETRYABLE", "OUTCOME_UNKNOWN", "READY"],
                    close_by__isnull=False,
                    stopped_at__isnull=True,
                ),
                fields=["close_by"],
                name="task_close_due",
            ),
        ),
    ]
