"""Cases may also be about revenue leakage."""

from __future__ import annotations

from django.db import migrations, models

CATEGORIES = (
    "REFUSED",
    "UNCERTAIN",
    "CONFLICT",
    "DATA",
    "RETRYING",
    "STUCK",
    "POISON",
    "UNDELIVERED",
    "LEAKAGE",
)


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0016_causes")]

    operations = [
        migrations.AlterField(
            model_name="falloutcase",
            name="category",
            field=models.CharField(choices=[(name, name) for name in CATEGORIES], max_length=20),
        ),
    ]
