"""What is sent later is out of the claim's way; what is stuck is not read through in every run."""

from __future__ import annotations

import django.db.models.functions.datetime
from django.db import migrations, models

_SENDABLE = models.Q(
    ("held_by__isnull", True),
    ("state__in", ["FAILED_RETRYABLE", "READY"]),
    ("waits_for_lock", ""),
)


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0020_computed_clocks")]

    operations = [
        migrations.RemoveIndex(model_name="task", name="task_claim_order"),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("target"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("rank"),
                models.F("depth"),
                models.F("id"),
                condition=_SENDABLE & ~models.Q(("waits_for__in", ["RETRY", "WINDOW"])),
                name="task_claim_order",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(
                    ("held_by__isnull", True),
                    ("state__in", ["FAILED_RETRYABLE", "READY"]),
                    ("waits_for__in", ["RETRY", "WINDOW"]),
                    ("waits_for_lock", ""),
                ),
                fields=["target", "not_before"],
                name="task_later",
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="case_due_at",
            field=models.DateTimeField(
                db_default=django.db.models.functions.datetime.Now(),
                help_text="When the detector next makes sure that what is stuck has a case.",
            ),
        ),
        migrations.RemoveIndex(model_name="plan", name="plan_stuck"),
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                condition=models.Q(("stuck_at__isnull", False)),
                fields=["case_due_at"],
                name="plan_stuck",
            ),
        ),
    ]
