"""Business calendars: rows that operators edit, and that windows name."""

from __future__ import annotations

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0011_workflow_language")]

    operations = [
        migrations.CreateModel(
            name="BusinessCalendar",
            fields=[
                ("name", models.SlugField(max_length=63, primary_key=True, serialize=False)),
                ("title", models.CharField(max_length=200)),
                ("spec", models.JSONField(help_text="Time zone, hours and holidays.")),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
            ],
            options={"ordering": ["name"]},
        ),
    ]
