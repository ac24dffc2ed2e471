"""Tasks that have not gone the usual way are listed by their state, however few they are."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0038_cases_by_reason")]

    operations = [
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("state"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(
                    state__in=[
                        "ACCEPTED",
                        "AWAITING_MANUAL",
                        "CANCELLED",
                        "FAILED_FINAL",
                        "FAILED_RETRYABLE",
                        "OUTCOME_UNKNOWN",
                        "SKIPPED_BY_POLICY",
                        "WAIVED_BY_AUTHORIZED_USER",
                    ]
                ),
                name="task_by_rare_state",
            ),
        ),
    ]
