"""What a task's clocks were computed to."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0019_clocks")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="limits",
            field=models.JSONField(
                blank=True,
                help_text="Clocks that were computed for it: name, seconds.",
                null=True,
            ),
        ),
    ]
