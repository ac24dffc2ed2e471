"""Dead letters are found without a look at every delivery; receivers in our own network have
names that Django does not take for addresses."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0006_reconciliation")]

    operations = [
        migrations.AlterField(
            model_name="subscription",
            name="url",
            field=models.CharField(
                help_text="Such as https://shop.example/events.", max_length=500
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "DEAD")),
                fields=["subscription", "event"],
                name="delivery_dead",
            ),
        ),
    ]
