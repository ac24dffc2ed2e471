"""Orders from before holds: what the engine knows of them now includes their customer."""

from __future__ import annotations

from django.db import migrations

CUSTOMERS = """
UPDATE fulfillment_fulfillment f SET customer = o.customer_id
FROM oms_order o WHERE o.fulfillment_id = f.id AND f.customer = ''
"""


class Migration(migrations.Migration):
    dependencies = [("oms", "0002_api_names"), ("fulfillment", "0004_boundary")]

    operations = [migrations.RunSQL(CUSTOMERS, migrations.RunSQL.noop)]
