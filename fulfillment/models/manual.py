"""Manual tasks: steps that a person decides (reference §17)."""

from __future__ import annotations

import enum

from django.db import models
from django_fsm import transition

from fulfillment.models.base import AsWritten, StateField, StatefulModel, states_constraint
from fulfillment.models.fulfillment import Fulfillment
from fulfillment.models.task import Task


class ManualState(enum.StrEnum):
    OPEN = "OPEN"
    DECIDED = "DECIDED"
    WITHDRAWN = "WITHDRAWN"


class ManualTask(StatefulModel):
    """What a person has to decide, until when, and what was decided.

    OPEN → DECIDED, by a person or, when nobody came, by its deadline; OPEN → WITHDRAWN when
    its task was settled in another way.
    """

    task = models.OneToOneField(Task, models.PROTECT, related_name="manual")
    fulfillment = models.ForeignKey(
        Fulfillment, models.PROTECT, db_constraint=False, db_index=False
    )
    state = StateField(default=ManualState.OPEN, choices=[(s, s) for s in ManualState])
    queue = models.CharField(max_length=63)
    role = models.CharField(max_length=63)
    title = models.CharField(max_length=200)
    instructions = models.TextField()
    outcomes = AsWritten(help_text="Outcome -> proceed or refuse.")
    fields = AsWritten(default=dict, help_text="What has to be entered: name -> type.")
    context = models.JSONField(default=dict, help_text="The order and what is known, as it was.")
    due_at = models.DateTimeField(null=True, help_text="Empty once somebody has been told.")
    otherwise = models.CharField(max_length=63)
    outcome = models.CharField(max_length=63, blank=True, default="")
    decided_by = models.CharField(max_length=150, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    opened_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [states_constraint(states=ManualState, name="manual_state_is_legal")]
        indexes = [
            models.Index(
                fields=["due_at"],
                condition=models.Q(state=ManualState.OPEN),
                name="manual_due",
            ),
            models.Index(
                fields=["queue", "opened_at"],
                condition=models.Q(state=ManualState.OPEN),
                name="manual_open_by_queue",
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

    @transition(field=state, source=ManualState.OPEN, target=ManualState.DECIDED)
    def decide(self) -> None:
        """An outcome was chosen."""

    @transition(field=state, source=ManualState.OPEN, target=ManualState.WITHDRAWN)
    def withdraw(self) -> None:
        """Its task needs no decision any more."""
