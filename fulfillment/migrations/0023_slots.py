"""Which slot of its worker an attempt has: those of one slot follow one another."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0022_lighter_writes"),
    ]

    operations = [
        migrations.AddField(
            model_name="attempt",
            name="slot",
            field=models.SmallIntegerField(
                blank=True,
                help_text="Of its worker. Attempts of one slot follow one another, so they count "
                "once.",
                null=True,
            ),
        ),
    ]
