"""What has been counted of each day, for reports."""

from __future__ import annotations

from django.db import migrations, models

from oms.models.figures import Measure


class Migration(migrations.Migration):
    dependencies = [("oms", "0011_finished_orders")]

    operations = [
        migrations.CreateModel(
            name="CountedDay",
            fields=[
                (
                    "day",
                    models.DateField(help_text="UTC.", primary_key=True, serialize=False),
                ),
                (
                    "counted_at",
                    models.DateTimeField(help_text="What had happened by then is counted."),
                ),
                (
                    "is_closed",
                    models.BooleanField(help_text="It is over, and all of it is counted."),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Figure",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "measure",
                    models.CharField(choices=[(one, one) for one in Measure], max_length=20),
                ),
                (
                    "starts_at",
                    models.DateTimeField(
                        help_text="UTC. Of a day that is closed its midnight, else the hour."
                    ),
                ),
                ("subject", models.CharField(max_length=200)),
                ("action", models.CharField(max_length=100)),
                ("outcome", models.CharField(max_length=100)),
                (
                    "bucket",
                    models.SmallIntegerField(
                        help_text="How long it took, as oms.figures.durations has it; "
                        "0: it has no duration."
                    ),
                ),
                ("count", models.PositiveBigIntegerField()),
            ],
            options={
                "indexes": [models.Index(fields=["starts_at"], name="figure_by_time")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("measure", "starts_at", "subject", "action", "outcome", "bucket"),
                        include=("count",),
                        name="one_figure_per_kind_and_time",
                    )
                ],
            },
        ),
    ]
