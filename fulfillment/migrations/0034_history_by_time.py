"""What happened within a time is found by indexes of a few pages."""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0033_plans_under_way")]

    operations = [
        migrations.AddIndex(
            model_name=model,
            index=BrinIndex(
                fields=[column],
                autosummarize=True,
                pages_per_range=32,
                name=f"{model}_by_time",
            ),
        )
        for model, column in (("operation", "happened_at"), ("transition", "occurred_at"))
    ]
