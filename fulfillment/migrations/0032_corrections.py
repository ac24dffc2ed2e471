"""Payloads that were corrected by hand."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0031_bulk_jobs")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="correction",
            field=models.JSONField(
                blank=True,
                help_text="By hand: how its payload differs from what its workflow makes.",
                null=True,
            ),
        ),
    ]
