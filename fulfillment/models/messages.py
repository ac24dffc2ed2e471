"""What came in from outside, and what leaves the system."""

from __future__ import annotations

import enum

from django.db import models

from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.task import Task


class Disposition(enum.StrEnum):
    APPLIED = "APPLIED"
    """It moved its task."""
    REDUNDANT = "REDUNDANT"
    """Its task had already settled the same way; nothing was left to do."""
    CONFLICTING = "CONFLICTING"
    """It contradicts how its task was settled: a person has to look."""
    UNMATCHED = "UNMATCHED"
    """No command of this target has its key; parked until somebody matches it."""
    DISMISSED = "DISMISSED"
    """Somebody has set it aside: it is about nothing of ours. It may still be matched."""


PARKED = frozenset({Disposition.UNMATCHED, Disposition.DISMISSED})
"""Of no task so far: it has moved nothing, and finds its task if it comes again."""


class InboundEvent(models.Model):
    """The inbox: every event from outside once, by the sender's own event id (reference §23.2)."""

    source = models.CharField(max_length=60, help_text="Target system that sent it.")
    event_id = models.CharField(max_length=200)
    idempotency_key = models.CharField(max_length=200)
    body = models.JSONField()
    disposition = models.CharField(max_length=20, choices=[(d, d) for d in Disposition])
    task = models.ForeignKey(Task, models.PROTECT, null=True, blank=True, related_name="events")
    suggestions = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="For an unmatched event: the tasks that it may be about.",
    )
    received_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source", "event_id"], name="once_per_event"),
            models.CheckConstraint(
                condition=models.Q(disposition__in=[d.value for d in Disposition]),
                name="inbound_disposition_is_legal",
            ),
            # one-task-per-result: a result has its task, or is explicitly parked.
            models.CheckConstraint(
                condition=models.Q(disposition__in=sorted(PARKED), task__isnull=True)
                | (~models.Q(disposition__in=sorted(PARKED)) & models.Q(task__isnull=False)),
                name="one_task_per_result",
            ),
        ]
        indexes = [
            models.Index(
                fields=["received_at"],
                condition=models.Q(disposition=Disposition.UNMATCHED),
                name="inbound_unmatched",
            )
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.event_id}"


class OutboxEvent(models.Model):
    """An event that leaves the system, written in the unit that made it true (reference §23.1)."""

    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, related_name="events", db_constraint=False
    )
    event_type = models.CharField(max_length=60)
    plan_id = models.BigIntegerField(null=True, blank=True)
    task_id = models.BigIntegerField(null=True, blank=True)
    causation_id = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="The command or report that caused it.",
    )
    payload = models.JSONField()
    occurred_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["id"],
                condition=models.Q(published_at__isnull=True),
                name="outbox_unpublished",
            )
        ]

    def __str__(self) -> str:
        return self.event_type
