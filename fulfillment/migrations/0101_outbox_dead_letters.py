"""Dead letters are counted and found without a look at every delivery."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0005_boundary_guards")]

    operations = [
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "DEAD")),
                fields=["subscription", "event"],
                name="delivery_dead",
            ),
        ),
    ]
