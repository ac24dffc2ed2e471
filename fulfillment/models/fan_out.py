"""How far a fan-out is: its elements, and how many of them have ended."""

from __future__ import annotations

from django.db import models

from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.plan import Plan


class FanOut(models.Model):
    """One list that a plan works through; written under the fulfillment's lock only.

    Elements are numbered from 1, and their tasks come to exist when they are started: a list of
    thousands is not thousands of rows before its time.
    """

    plan = models.ForeignKey(Plan, models.PROTECT, related_name="fan_outs", db_index=False)
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, db_constraint=False, db_index=False
    )
    node = models.PositiveIntegerField(help_text="The SPREAD node in the plan's graph.")
    elements = models.JSONField(help_text="The list, as it was when the fan-out began.")
    total = models.PositiveIntegerField()
    at_once = models.PositiveIntegerField()
    tolerated = models.PositiveIntegerField(help_text="Elements that may fail.")
    started = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    failed = models.JSONField(default=list, help_text="Numbers of the elements that failed.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan", "node"], name="one_fan_out_per_node"),
        ]

    def __str__(self) -> str:
        return f"{self.done} of {self.total}"
