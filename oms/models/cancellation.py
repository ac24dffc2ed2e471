"""What became of the wish to cancel an order (reference §19)."""

from __future__ import annotations

import enum

from django.db import models
from django_fsm import transition

from fulfillment.models import Plan
from fulfillment.models.base import StateField, StatefulModel, states_constraint
from oms.models.orders import Order
from oms.states import OrderState


class CancellationState(enum.StrEnum):
    ASSESSING = "ASSESSING"
    """What is under way has to be settled before anybody can tell."""
    DENIED = "DENIED"
    """`refusals` say why; the order goes on."""
    UNDOING = "UNDOING"
    DONE = "DONE"


OPEN_CANCELLATIONS = frozenset({CancellationState.ASSESSING, CancellationState.UNDOING})


class CancellationRequest(StatefulModel):
    """One request to cancel one order, and what it was told. At most one is open per order."""

    order = models.ForeignKey(Order, models.PROTECT, related_name="cancellations")
    number = models.PositiveIntegerField(help_text="From 1, within the order.")
    state = StateField(
        default=CancellationState.ASSESSING, choices=[(s, s) for s in CancellationState]
    )
    requested_by = models.CharField(max_length=150)
    reason = models.TextField()
    order_state_before = models.CharField(max_length=40, choices=[(s, s) for s in OrderState])
    quote = models.JSONField(
        default=dict,
        help_text="What it undoes, at what cost: as it was decided.",
    )
    refusals = models.JSONField(default=list, blank=True, help_text="Why it was denied.")
    plan = models.ForeignKey(
        Plan,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="The plan that undoes what was done.",
    )
    requested_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            states_constraint(states=CancellationState, name="cancellation_state_is_legal"),
            models.UniqueConstraint(fields=["order", "number"], name="one_cancellation_per_number"),
            models.UniqueConstraint(
                fields=["order"],
                condition=models.Q(state__in=sorted(OPEN_CANCELLATIONS)),
                name="one_open_cancellation",
            ),
            models.CheckConstraint(condition=~models.Q(reason=""), name="cancellation_says_why"),
        ]

    def __str__(self) -> str:
        return f"cancellation {self.number} of {self.order}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_CANCELLATIONS

    @transition(field=state, source=CancellationState.ASSESSING, target=CancellationState.DENIED)
    def deny(self) -> None:
        """It is not possible; the order goes on."""

    @transition(field=state, source=CancellationState.ASSESSING, target=CancellationState.UNDOING)
    def begin_undoing(self) -> None:
        """It is granted; another plan undoes what was done."""

    @transition(field=state, source=CancellationState.UNDOING, target=CancellationState.DONE)
    def finish(self) -> None:
        """Everything that had to be undone is."""
