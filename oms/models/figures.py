"""What has been counted of each day, so that reports answer at once (reference §28.1)."""

from __future__ import annotations

import enum

from django.db import models


class Measure(enum.StrEnum):
    """What is counted; `subject`, `action` and `outcome` of a figure say of what."""

    ORDERS = "ORDERS"
    """Orders that have ended: offering, "", state."""
    CYCLES = "CYCLES"
    """Those of them that are complete: offering; by how long they took."""
    ORDERS_WITH_CASE = "ORDERS_WITH_CASE"
    """Those of them that had a fallout case before: offering, "", state."""
    ORDERS_BY_HAND = "ORDERS_BY_HAND"
    """Those of them in which somebody had a hand: offering, "", what kind of hand."""
    PLANS = "PLANS"
    """Plans that have completed: workflows; by how long they took."""
    TASKS = "TASKS"
    """Tasks that have ended: target system, action, state."""
    UNDONE = "UNDONE"
    """Undos that have succeeded: target system, action."""
    SENDS = "SENDS"
    """Calls: target system, action, FIRST or AGAIN."""
    DOUBTS = "DOUBTS"
    """Outcomes that nobody knew: target system, action, code."""
    CASES = "CASES"
    """Cases that were opened: target system, reason, category."""
    OPERATIONS = "OPERATIONS"
    """What was done to orders by hand: operation."""
    CANCELLATIONS = "CANCELLATIONS"
    """Wishes to cancel that have ended: offering, "", DONE or DENIED."""


class Figure(models.Model):
    """How often something happened in one day, or, while the day is not over, in one hour."""

    measure = models.CharField(max_length=20, choices=[(one, one) for one in Measure])
    starts_at = models.DateTimeField(
        help_text="UTC. Of a day that is closed its midnight, else the hour."
    )
    subject = models.CharField(max_length=200)
    action = models.CharField(max_length=100)
    outcome = models.CharField(max_length=100)
    bucket = models.SmallIntegerField(
        help_text="How long it took, as oms.figures.durations has it; 0: it has no duration."
    )
    count = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            # A report reads ranges of it, and nothing else.
            models.UniqueConstraint(
                fields=["measure", "starts_at", "subject", "action", "outcome", "bucket"],
                include=["count"],
                name="one_figure_per_kind_and_time",
            ),
        ]
        indexes = [models.Index(fields=["starts_at"], name="figure_by_time")]

    def __str__(self) -> str:
        return f"{self.measure} {self.subject} {self.starts_at:%Y-%m-%d %H:%M}"


class CountedDay(models.Model):
    """A day of which there are figures, and since when they are as they stand."""

    day = models.DateField(primary_key=True, help_text="UTC.")
    counted_at = models.DateTimeField(help_text="What had happened by then is counted.")
    is_closed = models.BooleanField(help_text="It is over, and all of it is counted.")

    def __str__(self) -> str:
        return f"{self.day}"
