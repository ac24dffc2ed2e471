"""What every task writes costs less: no indexes that others begin with, no checks of what can't be.

Rows that are updated again and again have room beside them, so that the new version stays on its
page and no index changes.
"""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0021_out_of_the_way"),
    ]

    operations = [
        migrations.AlterField(
            model_name=model,
            name=name,
            field=models.ForeignKey(
                db_constraint=False,
                db_index=index,
                on_delete=django.db.models.deletion.PROTECT,
                related_name=related_name,
                to=f"fulfillment.{name}",
            ),
        )
        for model, name, related_name, index in (
            ("task", "plan", "tasks", False),
            ("command", "task", "commands", False),
            ("attempt", "command", "attempts", False),
            ("transition", "fulfillment", "transitions", False),
            ("outboxevent", "fulfillment", "events", True),
        )
    ] + [
        migrations.RunSQL(
            sql=f"ALTER TABLE {table} SET (fillfactor = 50)",
            reverse_sql=f"ALTER TABLE {table} RESET (fillfactor)",
        )
        for table in ("fulfillment_fulfillment", "fulfillment_plan")
    ]
