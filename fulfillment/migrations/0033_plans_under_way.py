"""What runs on a version of a workflow is counted without looking at what is over."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0032_corrections")]

    operations = [
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                condition=~models.Q(
                    ("state__in", ["CANCELLED", "COMPLETED", "FAILED", "SUPERSEDED"])
                ),
                fields=["graph", "-id"],
                name="plan_under_way",
            ),
        ),
    ]
