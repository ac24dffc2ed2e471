"""Why every task waits, stored by the code that decides it."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0015_locks_and_fair_shares"),
    ]

    operations = [
        migrations.AddField(
            model_name="task",
            name="waits_for",
            field=models.CharField(
                blank=True,
                db_default="",
                default="DEPENDENCY",
                help_text="The one reason why it waits, as decided last.",
                max_length=20,
            ),
        ),
        migrations.AddIndex(
            model_name="fulfillment",
            index=models.Index(
                condition=models.Q(("business_key", ""), _negated=True),
                fields=["business_key"],
                name="fulfillment_by_business_key",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("waits_for__in", ["", "DEPENDENCY"]), _negated=True),
                fields=["waits_for", "changed_at"],
                name="task_by_cause",
            ),
        ),
    ]
