"""The newest of a target's accepted work is found without a look at that of the others."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0009_accepted_by_target")]

    operations = [
        migrations.RemoveIndex(model_name="task", name="task_accepted"),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("state", "ACCEPTED")),
                fields=["target", "not_before"],
                name="task_accepted",
            ),
        ),
    ]
