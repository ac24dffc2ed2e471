"""How many orders have ended today is counted without reading those of all other days."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("oms", "0010_keys_of_people")]

    operations = [
        migrations.AddIndex(
            model_name="order",
            index=models.Index(
                fields=["state", "finished_at"],
                condition=models.Q(finished_at__isnull=False),
                name="order_finished",
            ),
        ),
    ]
