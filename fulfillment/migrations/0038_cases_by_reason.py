"""Cases that have one cause are found together, open ones first, however many there are."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0037_by_correlation_id")]

    operations = [
        migrations.AddIndex(
            model_name="falloutcase",
            index=models.Index(
                fields=["reason_code", "target", "action", "-resolved_at", "sla_due_at", "-id"],
                name="case_by_reason",
            ),
        ),
    ]
