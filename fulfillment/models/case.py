"""Fallout cases: operational work items, not the same thing as failed tasks (reference §18)."""

from __future__ import annotations

import enum

from django.db import models
from django_fsm import transition

from fulfillment.models.base import StateField, StatefulModel, states_constraint
from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.plan import Plan
from fulfillment.models.task import Task


class CaseState(enum.StrEnum):
    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


class CaseCategory(enum.StrEnum):
    """What kind of trouble it is, and so who should look at it."""

    REFUSED = "REFUSED"
    """The target system said no, or every attempt is used up."""
    UNCERTAIN = "UNCERTAIN"
    """Whether it happened is not known, and nobody but a person can find out."""
    CONFLICT = "CONFLICT"
    """Two definitive answers contradict each other."""
    DATA = "DATA"
    """An input can't be made, or a confirmed answer can't be used."""
    RETRYING = "RETRYING"
    """It goes on being tried, but for longer than it should take."""
    STUCK = "STUCK"
    """Nothing has moved for too long."""
    LATE = "LATE"
    """A time that was set for it has passed; it goes on all the same."""
    POISON = "POISON"
    """The engine itself fails with it, or it takes its workers down."""
    JEOPARDY = "JEOPARDY"
    """It will be done later than was promised."""
    UNDELIVERED = "UNDELIVERED"
    """A subscriber did not get an event."""
    LEAKAGE = "LEAKAGE"
    """Something is active and not billed, or billed and not there."""


class Severity(enum.StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class FalloutCase(StatefulModel):
    """What can't go on by itself, with everything a person needs to decide.

    One open case per order, task and category: what comes later joins its `facts`.
    """

    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, null=True, blank=True, related_name="cases", db_index=False
    )
    plan = models.ForeignKey(
        Plan, models.PROTECT, null=True, blank=True, db_index=False, related_name="cases"
    )
    task = models.ForeignKey(
        Task, models.PROTECT, null=True, blank=True, db_index=False, related_name="cases"
    )
    subject = models.CharField(
        max_length=300, help_text="What it is about: at most one open case for each."
    )
    state = StateField(default=CaseState.OPEN, choices=[(s, s) for s in CaseState])
    category = models.CharField(max_length=20, choices=[(c, c) for c in CaseCategory])
    severity = models.CharField(max_length=10, choices=[(s, s) for s in Severity])
    reason_code = models.CharField(max_length=100)
    title = models.CharField(max_length=300)
    explanation = models.TextField(help_text="What happened, and what to do next.")
    facts = models.JSONField(default=dict, help_text="The evidence.")
    repair_options = models.JSONField(default=list)
    owner_queue = models.CharField(max_length=60)
    sla_due_at = models.DateTimeField()
    customer_impact = models.TextField(blank=True, default="")
    revenue_impact = models.TextField(blank=True, default="")
    opened_by = models.CharField(max_length=150)
    opened_at = models.DateTimeField()
    resolved_by = models.CharField(max_length=150, blank=True, default="")
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolution = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            states_constraint(states=CaseState, name="case_state_is_legal"),
            models.UniqueConstraint(
                fields=["subject"],
                condition=models.Q(state=CaseState.OPEN),
                name="one_open_case_per_subject",
            ),
        ]
        indexes = [
            models.Index(
                fields=["fulfillment"],
                condition=models.Q(state=CaseState.OPEN),
                name="case_open_by_fulfillment",
            ),
            # As lists show them: open ones by the time that is left, then those closed last.
            models.Index(
                fields=["state", "-resolved_at", "sla_due_at", "-id"], name="case_as_listed"
            ),
        ]

    def __str__(self) -> str:
        return f"case {self.pk}: {self.title}"

    @transition(field=state, source=CaseState.OPEN, target=CaseState.RESOLVED)
    def resolve(self) -> None:
        """What it was about is no longer so."""
