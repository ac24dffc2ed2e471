"""How long tasks usually take, measured from those that have ended lately."""

from __future__ import annotations

from django.db import models


class MeasuredDuration(models.Model):
    """One task of one workflow, from the moment it could begin to its success."""

    workflow = models.CharField(max_length=64)
    task = models.CharField(max_length=64)
    median_seconds = models.FloatField()
    p90_seconds = models.FloatField()
    samples = models.PositiveIntegerField(help_text="Of the last measurement.")
    measured_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workflow", "task"], name="one_duration_per_task"),
        ]

    def __str__(self) -> str:
        return f"{self.workflow}/{self.task}"
