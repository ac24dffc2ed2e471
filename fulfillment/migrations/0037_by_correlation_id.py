"""An order is found by the id that all its calls and events carry."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0036_events_set_aside")]

    operations = [
        migrations.AddIndex(
            model_name="fulfillment",
            index=models.Index(fields=["correlation_id"], name="fulfillment_by_correlation"),
        ),
    ]
