"""A task whose result has expired keeps its row; its successor stands at the same place."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0012_calendar")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="round",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                default=0,
                help_text="0: this one counts. From 1: what it returned has expired, and its "
                "successor at the same place counts.",
            ),
        ),
        migrations.RemoveConstraint(model_name="task", name="one_task_per_node"),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.UniqueConstraint(
                fields=("plan", "node", "element", "round"), name="one_task_per_node"
            ),
        ),
    ]
