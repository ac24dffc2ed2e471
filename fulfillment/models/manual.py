"""Manual tasks: what a person decides, as a workflow says or because a task can't go on (§17)."""

from __future__ import annotations

import enum

from django.db import models
from django_fsm import transition

from fulfillment.models.base import AsWritten, StateField, StatefulModel, states_constraint
from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.hold import Hold
from fulfillment.models.task import Task


class ManualState(enum.StrEnum):
    OPEN = "OPEN"
    CLAIMED = "CLAIMED"
    AWAITING_CUSTOMER = "AWAITING_CUSTOMER"
    DECIDED = "DECIDED"
    WITHDRAWN = "WITHDRAWN"


MANUAL_TIMED = frozenset({ManualState.OPEN, ManualState.CLAIMED})
"""Somebody has to decide, and their time runs."""
MANUAL_OPEN = MANUAL_TIMED | {ManualState.AWAITING_CUSTOMER}
"""Not decided yet."""


class ManualOrigin(enum.StrEnum):
    WORKFLOW = "WORKFLOW"
    """It is a step of its own."""
    REPAIR = "REPAIR"
    """A task of another kind can't go on by itself."""


class Trouble(enum.StrEnum):
    """Why a task that is no question to a person waits for one."""

    NONE = ""
    INPUT = "INPUT"
    """It can't begin: a value is missing, is of no use, has expired, or a precondition is broken.
    Nothing has been sent."""
    OUTPUTS = "OUTPUTS"
    """It was done, or reported, and what came back can't be used."""
    UNKNOWN = "UNKNOWN"
    """Nobody knows whether its target system did it."""
    REPORT = "REPORT"
    """What it waits for was not reported in time, or never will be."""


class ManualTask(StatefulModel):
    """What a person has to decide, until when, and what was decided.

    OPEN → CLAIMED when somebody takes it, and back; AWAITING_CUSTOMER while the customer, or
    commerce, has to say something first, and its time stands still; DECIDED by a person or, when
    nobody came, by its deadline; WITHDRAWN when its task was settled in another way.
    """

    task = models.ForeignKey(Task, models.PROTECT, related_name="manual_tasks", db_index=False)
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, db_constraint=False, db_index=False
    )
    state = StateField(default=ManualState.OPEN, choices=[(s, s) for s in ManualState])
    origin = models.CharField(
        max_length=10,
        choices=[(one, one) for one in ManualOrigin],
        default=ManualOrigin.WORKFLOW,
        db_default=ManualOrigin.WORKFLOW,
    )
    trouble = models.CharField(
        max_length=10,
        blank=True,
        choices=[(one, one) for one in Trouble],
        default=Trouble.NONE,
        db_default=Trouble.NONE,
    )
    queue = models.CharField(max_length=63)
    role = models.CharField(
        max_length=63,
        blank=True,
        help_text="The group whose members decide it; empty: whoever else may.",
    )
    title = models.CharField(max_length=200)
    instructions = models.TextField()
    outcomes = AsWritten(help_text="Outcome -> what it does.")
    fields = AsWritten(default=dict, help_text="What has to be entered: name -> type.")
    context = models.JSONField(default=dict, help_text="The order and what is known, as it was.")
    due_at = models.DateTimeField(null=True, help_text="Empty once somebody has been told.")
    calendar = models.CharField(
        max_length=63,
        blank=True,
        default="",
        db_default="",
        help_text="The business calendar of its time; empty: around the clock.",
    )
    otherwise = models.CharField(max_length=63)
    claimed_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    claimed_at = models.DateTimeField(null=True, blank=True)
    awaits = models.CharField(
        max_length=10,
        blank=True,
        default="",
        db_default="",
        help_text="Who has to say something first: customer, or commerce.",
    )
    question = models.TextField(
        blank=True, default="", db_default="", help_text="What they were asked last."
    )
    stopped_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when its time stands still."
    )
    hold = models.ForeignKey(
        Hold,
        models.PROTECT,
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
        related_name="+",
        help_text="That keeps the order until there is a new quote.",
    )
    escalations = models.PositiveSmallIntegerField(default=0, db_default=0)
    escalated_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=63, blank=True, default="")
    decided_by = models.CharField(max_length=150, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    opened_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            states_constraint(states=ManualState, name="manual_state_is_legal"),
            models.UniqueConstraint(
                fields=["task"],
                condition=models.Q(state__in=sorted(MANUAL_OPEN)),
                name="one_open_manual_task_per_task",
            ),
        ]
        indexes = [
            models.Index(fields=["task"], name="manual_by_task"),
            models.Index(
                fields=["due_at"],
                condition=models.Q(state__in=sorted(MANUAL_TIMED)),
                name="manual_due_by",
            ),
            models.Index(
                fields=["queue", "opened_at"],
                condition=models.Q(state__in=sorted(MANUAL_OPEN)),
                name="manual_to_do_by_queue",
            ),
            models.Index(
                fields=["claimed_by", "due_at"],
                condition=models.Q(state=ManualState.CLAIMED),
                name="manual_of_person",
            ),
            # What the customer, or commerce, is awaited for: clocks stand still, holds end it.
            models.Index(
                fields=["fulfillment"],
                condition=models.Q(state=ManualState.AWAITING_CUSTOMER),
                name="manual_awaiting",
            ),
            # As lists show them: open ones by the time that is left, then those decided last.
            models.Index(
                models.F("decided_at").desc(nulls_first=True),
                models.F("due_at").asc(nulls_first=True),
                models.F("id"),
                name="manual_as_listed",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @transition(field=state, source=ManualState.OPEN, target=ManualState.CLAIMED)
    def claim(self) -> None:
        """Somebody has taken it."""

    @transition(field=state, source=ManualState.CLAIMED, target=ManualState.OPEN)
    def release(self) -> None:
        """It is anybody's again."""

    @transition(
        field=state, source=[ManualState.OPEN, ManualState.CLAIMED], target=ManualState.CLAIMED
    )
    def reassign(self) -> None:
        """Somebody has it by another's word."""

    @transition(
        field=state,
        source=[ManualState.OPEN, ManualState.CLAIMED],
        target=ManualState.AWAITING_CUSTOMER,
    )
    def await_customer(self) -> None:
        """The customer, or commerce, has to say something first; its time stands still."""

    @transition(field=state, source=ManualState.AWAITING_CUSTOMER, target=ManualState.CLAIMED)
    def resume(self) -> None:
        """Whoever has asked goes on with it."""

    @transition(field=state, source=ManualState.AWAITING_CUSTOMER, target=ManualState.OPEN)
    def reopen(self) -> None:
        """It goes on, and nobody has it."""

    @transition(field=state, source=sorted(MANUAL_OPEN), target=ManualState.DECIDED)
    def decide(self) -> None:
        """An outcome was chosen."""

    @transition(field=state, source=sorted(MANUAL_OPEN), target=ManualState.WITHDRAWN)
    def withdraw(self) -> None:
        """Its task needs no decision any more."""
