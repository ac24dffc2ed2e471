"""Fallout cases: operational work items, not the same thing as failed tasks (reference §18)."""

from __future__ import annotations

import enum
from datetime import timedelta

from django.db import models
from django.db.models.functions import Coalesce
from django_fsm import transition

from fulfillment.models.base import StateField, StatefulModel, states_constraint
from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.incident import Incident, Severity
from fulfillment.models.plan import Plan
from fulfillment.models.task import Task


class CaseState(enum.StrEnum):
    OPEN = "OPEN"
    """Nobody has it yet."""
    ASSIGNED = "ASSIGNED"
    """Somebody has it."""
    AWAITING_CUSTOMER = "AWAITING_CUSTOMER"
    """Whoever has it waits for the customer; its time stands still."""
    RESOLVED = "RESOLVED"


UNRESOLVED = "state <> 'RESOLVED'"
"""In SQL, what an open case or incident is: anybody's or nobody's, but not over."""
IS_UNRESOLVED = ~models.Q(state=CaseState.RESOLVED)
HIGHEST_LEVEL = 5
"""Above it there is nobody to escalate to."""


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


class FalloutCase(StatefulModel):
    """What can't go on by itself, with everything a person needs to decide.

    What fails in one order for the same reason (target, action, reason code) is one case with
    several tasks (`CaseTask`); what it says of itself is what its `task` says. Anything else has
    one case per subject, and what comes later joins its `facts`.
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
    target = models.CharField(max_length=100, blank=True, default="", db_default="")
    action = models.CharField(max_length=100, blank=True, default="", db_default="")
    reason_code = models.CharField(max_length=100)
    fingerprint = models.CharField(
        max_length=32,
        blank=True,
        default="",
        db_default="",
        help_text="Of target, action and reason code; empty: no cause in common with others.",
    )
    incident = models.ForeignKey(
        Incident, models.PROTECT, null=True, blank=True, related_name="cases", db_index=False
    )
    title = models.CharField(max_length=300)
    explanation = models.TextField(help_text="What happened, and what to do next.")
    facts = models.JSONField(default=dict, help_text="The evidence.")
    repair_options = models.JSONField(
        default=list, help_text="What may help with this kind of trouble: names of operations."
    )
    tasks_open = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Tasks that it is about, and that have not got on."
    )
    tasks_total = models.PositiveIntegerField(default=0, db_default=0)

    owner_queue = models.CharField(max_length=60)
    role = models.CharField(max_length=100, blank=True, default="", db_default="")
    assigned_to = models.CharField(
        max_length=150, blank=True, default="", db_default="", help_text="User name."
    )
    assigned_at = models.DateTimeField(null=True, blank=True)

    sla_due_at = models.DateTimeField()
    sla_within = models.DurationField(
        default=timedelta(hours=4),
        db_default=timedelta(hours=4),
        help_text="Working time of its calendar; after each further one it is escalated again.",
    )
    sla_calendar = models.CharField(
        max_length=63, blank=True, default="", db_default="", help_text="Empty: day and night."
    )
    sla_paused_at = models.DateTimeField(null=True, blank=True)
    sla_left = models.DurationField(
        null=True, blank=True, help_text="Working time left when its clock was stopped."
    )
    customer_awaited_since = models.DateTimeField(null=True, blank=True)
    customer_asked = models.TextField(blank=True, default="", db_default="")
    escalation_queue = models.CharField(max_length=60, blank=True, default="", db_default="")
    escalation_level = models.PositiveSmallIntegerField(default=0, db_default=0)
    escalated_at = models.DateTimeField(null=True, blank=True)
    escalates_at = models.DateTimeField(
        null=True, blank=True, help_text="When it is escalated next; empty: when it is due."
    )

    customer_impact = models.TextField(blank=True, default="")
    revenue_impact = models.TextField(blank=True, default="")
    revenue = models.JSONField(
        default=dict,
        db_default=models.Value({}, output_field=models.JSONField()),
        help_text='By item: {"1": {"IDR": ["once", "recurring"]}}, amounts as text.',
    )
    revenue_amount = models.DecimalField(max_digits=20, decimal_places=4, null=True, blank=True)
    revenue_currency = models.CharField(max_length=3, blank=True, default="", db_default="")

    opened_by = models.CharField(max_length=150)
    opened_at = models.DateTimeField()
    resolved_by = models.CharField(max_length=150, blank=True, default="")
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolution = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            states_constraint(states=CaseState, name="case_state_is_legal"),
            models.UniqueConstraint(
                fields=["subject"], condition=IS_UNRESOLVED, name="one_open_case_per_subject"
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=[CaseState.OPEN, CaseState.RESOLVED])
                | ~models.Q(assigned_to=""),
                name="case_is_assigned_to_somebody",
            ),
        ]
        indexes = [
            models.Index(
                fields=["fulfillment"], condition=IS_UNRESOLVED, name="case_open_by_fulfillment"
            ),
            # As lists show them: open ones by the time that is left, then those closed last.
            models.Index(
                models.OrderBy(models.F("resolved_at"), descending=True, nulls_first=True),
                models.F("sla_due_at"),
                models.OrderBy(models.F("id"), descending=True),
                name="case_as_listed",
            ),
            models.Index(
                fields=["state", "-resolved_at", "sla_due_at", "-id"], name="case_by_state"
            ),
            models.Index(
                fields=["reason_code", "target", "action", "-resolved_at", "sla_due_at", "-id"],
                name="case_by_reason",
            ),
            models.Index(
                fields=["id"], condition=models.Q(state=CaseState.RESOLVED), name="case_closed"
            ),
            models.Index(fields=["fulfillment", "id"], name="case_by_order"),
            models.Index(fields=["id"], condition=IS_UNRESOLVED, name="case_open"),
            models.Index(
                fields=["owner_queue", "sla_due_at"],
                condition=IS_UNRESOLVED,
                name="case_open_by_queue",
            ),
            models.Index(
                fields=["assigned_to", "sla_due_at"],
                condition=IS_UNRESOLVED & ~models.Q(assigned_to=""),
                name="case_open_by_person",
            ),
            models.Index(
                fields=["incident", "id"],
                condition=models.Q(incident__isnull=False),
                name="case_by_incident",
            ),
            # What is to be grouped, and what of the kind was fixed last.
            models.Index(
                fields=["fingerprint"],
                condition=IS_UNRESOLVED
                & models.Q(incident__isnull=True)
                & ~models.Q(fingerprint=""),
                name="case_of_no_incident",
            ),
            models.Index(
                fields=["fingerprint", "-resolved_at"],
                condition=models.Q(state=CaseState.RESOLVED) & ~models.Q(fingerprint=""),
                name="case_fixed_last",
            ),
            models.Index(
                Coalesce("escalates_at", "sla_due_at"),
                condition=IS_UNRESOLVED
                & models.Q(sla_paused_at__isnull=True, escalation_level__lt=HIGHEST_LEVEL),
                name="case_escalates",
            ),
        ]

    def __str__(self) -> str:
        return f"case {self.pk}: {self.title}"

    @transition(field=state, source=[CaseState.OPEN, CaseState.ASSIGNED], target=CaseState.ASSIGNED)
    def assign(self) -> None:
        """Somebody has it."""

    @transition(field=state, source=CaseState.ASSIGNED, target=CaseState.OPEN)
    def release(self) -> None:
        """Whoever had it has given it back."""

    @transition(field=state, source=CaseState.ASSIGNED, target=CaseState.AWAITING_CUSTOMER)
    def await_customer(self) -> None:
        """Only the customer can say how it goes on."""

    @transition(field=state, source=CaseState.AWAITING_CUSTOMER, target=CaseState.ASSIGNED)
    def go_on(self) -> None:
        """The customer has answered, or is awaited no more."""

    @transition(
        field=state,
        source=[CaseState.OPEN, CaseState.ASSIGNED, CaseState.AWAITING_CUSTOMER],
        target=CaseState.RESOLVED,
    )
    def resolve(self) -> None:
        """What it was about is no longer so."""


class CaseTask(models.Model):
    """A task that a case is about, from when it joined until it got on.

    A task is in one open case at most. What has left stays here as history.
    """

    case = models.ForeignKey(FalloutCase, models.PROTECT, related_name="tasks", db_index=False)
    task = models.ForeignKey(Task, models.PROTECT, related_name="case_tasks", db_index=False)
    title = models.CharField(max_length=300)
    explanation = models.TextField()
    facts = models.JSONField(default=dict)
    joined_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True, blank=True)
    left_because = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["task"],
                condition=models.Q(left_at__isnull=True),
                name="one_open_case_per_task",
            ),
        ]
        indexes = [models.Index(fields=["case", "id"], name="case_tasks")]

    def __str__(self) -> str:
        return f"task {self.task_id} of case {self.case_id}"
