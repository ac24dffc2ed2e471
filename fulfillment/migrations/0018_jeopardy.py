"""Until when plans were promised, how long tasks usually take, and when they began."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0017_leakage"),
    ]

    operations = [
        migrations.CreateModel(
            name="MeasuredDuration",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("workflow", models.CharField(max_length=64)),
                ("task", models.CharField(max_length=64)),
                ("median_seconds", models.FloatField()),
                ("p90_seconds", models.FloatField()),
                ("samples", models.PositiveIntegerField(help_text="Of the last measurement.")),
                ("measured_at", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name="plan",
            name="at_risk_since",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="plan",
            name="due_at",
            field=models.DateTimeField(
                blank=True, help_text="As the customer was promised.", null=True
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="estimated_at",
            field=models.DateTimeField(
                blank=True, help_text="When it will be done, as estimated last.", null=True
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="look_at",
            field=models.DateTimeField(
                blank=True, help_text="Before then it can't be in jeopardy.", null=True
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="began_at",
            field=models.DateTimeField(
                blank=True, help_text="When nothing before it was missing any more.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="falloutcase",
            name="category",
            field=models.CharField(
                choices=[
                    (
                        "REFUSED",
                        "REFUSED",
                    ),
                    (
                        "UNCERTAIN",
                        "UNCERTAIN",
                    ),
                    (
                        "CONFLICT",
                        "CONFLICT",
                    ),
                    (
                        "DATA",
                        "DATA",
                    ),
                    (
                        "RETRYING",
                        "RETRYING",
                    ),
                    (
                        "STUCK",
                        "STUCK",
                    ),
                    (
                        "POISON",
                        "POISON",
                    ),
                    (
                        "JEOPARDY",
                        "JEOPARDY",
                    ),
                    (
                        "UNDELIVERED",
                        "UNDELIVERED",
                    ),
                    (
                        "LEAKAGE",
                        "LEAKAGE",
                    ),
                ],
                max_length=20,
            ),
        ),
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                condition=models.Q(("look_at__isnull", False)), fields=["look_at"], name="plan_look"
            ),
        ),
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                condition=models.Q(("at_risk_since__isnull", False)),
                fields=["at_risk_since"],
                name="plan_in_jeopardy",
            ),
        ),
        migrations.AddConstraint(
            model_name="measuredduration",
            constraint=models.UniqueConstraint(
                fields=("workflow", "task"), name="one_duration_per_task"
            ),
        ),
    ]
