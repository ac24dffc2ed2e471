"""Lists of cases and of manual tasks stand in the order of an index.

Nobody asks for the beginning of an order's reference.
"""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0023_slots"),
    ]

    operations = [
        # The new one begins with the open ones, by the time that is left.
        migrations.RemoveIndex(model_name="falloutcase", name="case_open_by_due"),
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                fields=["state", "-resolved_at", "sla_due_at", "-id"], name="case_as_listed"
            ),
        ),
        migrations.AddIndex(
            model_name="manualtask",
            index=models.Index(
                models.OrderBy(models.F("decided_at"), descending=True, nulls_first=True),
                models.OrderBy(models.F("due_at"), nulls_first=True),
                models.F("id"),
                name="manual_as_listed",
            ),
        ),
        # Django adds it to a unique text, for questions with LIKE.
        migrations.RunSQL(
            sql="DROP INDEX IF EXISTS fulfillment_fulfillment_order_reference_3798f844_like",
            reverse_sql="CREATE INDEX fulfillment_fulfillment_order_reference_3798f844_like "
            "ON fulfillment_fulfillment (order_reference varchar_pattern_ops)",
        ),
    ]
