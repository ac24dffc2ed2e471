"""Until when the stuck-order detector leaves a plan alone; the order in which templates declare
what people are shown; shared milestones that will not come."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models.functions import Now

from fulfillment.models.base import AsWritten


def written() -> models.TextField[str, str]:
    return models.TextField(
        blank=True,
        db_default="",
        default="",
        help_text="The document as JSON text: jsonb does not keep the order of members. Empty "
        "in rows of older releases.",
    )


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0013_rounds")]

    operations = [
        migrations.RemoveIndex(model_name="plan", name="plan_active_by_progress"),
        # Plans of before, and of processes of the release before, are looked at once.
        migrations.AddField(
            model_name="plan",
            name="patient_until",
            field=models.DateTimeField(
                db_default=Now(),
                help_text="Until then the detector leaves it alone; it looks itself whether "
                "there is more time. What moves or blocks the plan sets it anew.",
            ),
        ),
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                condition=~models.Q(state__in=["CANCELLED", "COMPLETED", "FAILED", "SUPERSEDED"])
                & models.Q(stuck_at__isnull=True),
                fields=["patient_until"],
                name="plan_patience",
            ),
        ),
        migrations.AddField(
            model_name="signal",
            name="will_not_come",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="A milestone that the order goes on without; the payload says why.",
            ),
        ),
        migrations.AddField(model_name="plangraph", name="written", field=written()),
        migrations.AddField(model_name="workflowversion", name="written", field=written()),
        migrations.AlterField(
            model_name="manualtask",
            name="fields",
            field=AsWritten(default=dict, help_text="What has to be entered: name -> type."),
        ),
        migrations.AlterField(
            model_name="manualtask",
            name="outcomes",
            field=AsWritten(help_text="Outcome -> proceed or refuse."),
        ),
    ]
