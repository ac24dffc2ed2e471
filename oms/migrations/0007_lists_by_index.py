"""Lists of orders stand in the order of an index; nobody asks for the beginning of a reference."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("oms", "0006_fewer_indexes"),
    ]

    operations = [
        migrations.RemoveIndex(model_name="order", name="order_by_state"),
        migrations.RemoveIndex(model_name="order", name="order_by_customer"),
        *(
            migrations.AddIndex(
                model_name="order",
                index=models.Index(fields=[*first, "-submitted_at", "-id"], name=name),
            )
            for name, first in (
                ("order_by_client", ["client", "state"]),
                ("order_by_state", ["state"]),
                ("order_by_customer", ["customer_id"]),
            )
        ),
        # Django adds it to a unique text, for questions with LIKE.
        migrations.RunSQL(
            sql="DROP INDEX IF EXISTS oms_order_reference_3df67bc2_like",
            reverse_sql="CREATE INDEX oms_order_reference_3df67bc2_like "
            "ON oms_order (reference varchar_pattern_ops)",
        ),
    ]
