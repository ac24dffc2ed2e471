"""Events that are about nothing of ours are set aside; they have no task either."""

from __future__ import annotations

from django.db import migrations, models

KNOWN = ["APPLIED", "REDUNDANT", "CONFLICTING", "UNMATCHED", "DISMISSED"]
PARKED = ["DISMISSED", "UNMATCHED"]
# An older release knows them as what they were before.
BROUGHT_BACK = """
UPDATE fulfillment_inboundevent SET disposition = 'UNMATCHED' WHERE disposition = 'DISMISSED'
"""


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0035_stuck_since")]

    operations = [
        migrations.RemoveConstraint(model_name="inboundevent", name="inbound_disposition_is_legal"),
        migrations.RemoveConstraint(model_name="inboundevent", name="one_task_per_result"),
        migrations.AlterField(
            model_name="inboundevent",
            name="disposition",
            field=models.CharField(choices=[(one, one) for one in KNOWN], max_length=20),
        ),
        migrations.AddConstraint(
            model_name="inboundevent",
            constraint=models.CheckConstraint(
                condition=models.Q(disposition__in=KNOWN), name="inbound_disposition_is_legal"
            ),
        ),
        migrations.AddConstraint(
            model_name="inboundevent",
            constraint=models.CheckConstraint(
                condition=models.Q(disposition__in=PARKED, task__isnull=True)
                | (~models.Q(disposition__in=PARKED) & models.Q(task__isnull=False)),
                name="one_task_per_result",
            ),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, reverse_sql=BROUGHT_BACK),
    ]
