"""ANALYZE leaves out what nobody searches by: documents, hashes and keys that occur once.

Sorting samples of them was most of its work, which goes on beside the orders.
"""

from __future__ import annotations

from django.db import migrations

_COLUMNS = (
    ("fulfillment_task", "outputs"),
    ("fulfillment_plan", "context"),
    ("fulfillment_command", "payload"),
    ("fulfillment_command", "idempotency_key"),
    ("fulfillment_transition", "details"),
    ("fulfillment_transition", "cause"),
    ("fulfillment_transition", "hash"),
    ("fulfillment_outboxevent", "payload"),
)


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0024_lists_by_index"),
    ]

    operations = [
        migrations.RunSQL(
            sql=f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0",
            reverse_sql=f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS -1",
        )
        for table, column in _COLUMNS
    ]
