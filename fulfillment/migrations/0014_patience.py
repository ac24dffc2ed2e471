"""Until when the stuck-order detector leaves a plan alone, so that it looks at no other."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models.functions import Now


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
    ]
