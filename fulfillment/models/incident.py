"""Incidents: one cause, many cases; and who gets which cases."""

from __future__ import annotations

import enum

from django.db import models
from django.db.models.functions import Now
from django_fsm import transition

from fulfillment.models.base import StateField, StatefulModel, states_constraint


class Severity(enum.StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class IncidentState(enum.StrEnum):
    OPEN = "OPEN"
    """Its cause is looked for."""
    RELEASING = "RELEASING"
    """It is fixed; what it has kept is released in stages."""
    RESOLVED = "RESOLVED"


class Incident(StatefulModel):
    """One cause of many cases: they share target, action and reason code.

    How many cases and orders it has is counted when it is asked for. A job opens it, lets cases
    join and resolves it when they have been; never the unit that opens a case, which would wait
    here for every other one.
    """

    state = StateField(default=IncidentState.OPEN, choices=[(s, s) for s in IncidentState])
    fingerprint = models.CharField(max_length=32)
    target = models.CharField(max_length=100, blank=True, default="")
    action = models.CharField(max_length=100, blank=True, default="")
    reason_code = models.CharField(max_length=100)
    title = models.CharField(max_length=300)
    severity = models.CharField(max_length=10, choices=[(s, s) for s in Severity])
    owner_queue = models.CharField(max_length=60)
    assigned_to = models.CharField(max_length=150, blank=True, default="", help_text="User name.")
    cause = models.TextField(blank=True, default="", help_text="What was found.")
    fix = models.TextField(blank=True, default="", help_text="What was done about it.")
    opened_at = models.DateTimeField()
    releasing_since = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        constraints = [
            states_constraint(states=IncidentState, name="incident_state_is_legal"),
            models.UniqueConstraint(
                fields=["fingerprint"],
                condition=~models.Q(state=IncidentState.RESOLVED),
                name="one_open_incident_per_cause",
            ),
        ]
        indexes = [
            models.Index(
                models.OrderBy(models.F("resolved_at"), descending=True, nulls_first=True),
                models.OrderBy(models.F("id"), descending=True),
                name="incident_as_listed",
            ),
        ]

    def __str__(self) -> str:
        return f"incident {self.pk}: {self.title}"

    @transition(field=state, source=IncidentState.OPEN, target=IncidentState.RELEASING)
    def release(self) -> None:
        """Its cause is fixed; its cases are released, a few of them first."""

    @transition(field=state, source=IncidentState.RELEASING, target=IncidentState.OPEN)
    def stop_releasing(self) -> None:
        """It is not fixed after all."""

    @transition(
        field=state,
        source=[IncidentState.OPEN, IncidentState.RELEASING],
        target=IncidentState.RESOLVED,
    )
    def resolve(self) -> None:
        """All of its cases are resolved, or somebody says that it is no common cause."""


class RoutingRule(models.Model):
    """Who gets which cases, and how fast: the first rule that fits a case counts.

    Patterns are those of file names, such as `bill*`; empty fits everything.
    """

    name = models.SlugField(primary_key=True, max_length=63)
    position = models.PositiveIntegerField(help_text="The lowest is looked at first.")
    category = models.CharField(max_length=20, blank=True, default="")
    target = models.CharField(max_length=100, blank=True, default="")
    action = models.CharField(max_length=100, blank=True, default="")
    reason_code = models.CharField(max_length=100, blank=True, default="")
    owner_queue = models.CharField(max_length=60)
    role = models.CharField(max_length=100, blank=True, default="")
    severity = models.CharField(
        max_length=10,
        blank=True,
        default="",
        choices=[(s, s) for s in Severity],
        help_text="Empty: as the engine has found it.",
    )
    sla = models.DurationField(
        null=True, blank=True, help_text="Working time of the calendar; empty: as is usual."
    )
    calendar = models.CharField(
        max_length=63, blank=True, default="", help_text="Empty: day and night."
    )
    escalation_queue = models.CharField(max_length=60, blank=True, default="")
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name
