"""How many plans are stuck, and for how long, is told by an index alone."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0034_history_by_time")]

    operations = [
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                fields=["stuck_at"],
                condition=models.Q(stuck_at__isnull=False)
                & ~models.Q(state__in=["CANCELLED", "COMPLETED", "FAILED", "SUPERSEDED"]),
                name="plan_stuck_since",
            ),
        ),
    ]
