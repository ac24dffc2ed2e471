"""Amendments: an order is revised while it is fulfilled (reference §20)."""

from __future__ import annotations

import enum

from django.db import models
from django_fsm import transition

from fulfillment.models.base import StateField, StatefulModel, states_constraint
from oms.models.orders import Order


class Mode(enum.StrEnum):
    """How a revised order comes about."""

    AUTO = "auto"
    AMEND = "amend"
    """What is done and still holds is kept; the rest follows the revised order."""
    RECREATE = "recreate"
    """Everything that has been done is undone, and done again."""
    CHANGE_ORDER = "change_order"
    """The order is completed as it is; then another one changes what it has made."""


class AmendmentState(enum.StrEnum):
    ASSESSING = "ASSESSING"
    APPLIED = "APPLIED"
    DENIED = "DENIED"
    SUPERSEDED = "SUPERSEDED"
    WAITING_FOR_COMPLETION = "WAITING_FOR_COMPLETION"
    CHANGE_ORDERED = "CHANGE_ORDERED"


AMENDMENT_OPEN = frozenset({AmendmentState.ASSESSING, AmendmentState.WAITING_FOR_COMPLETION})


class OrderRevision(models.Model):
    """An order as it was before an amendment changed it. Nothing changes a revision."""

    order = models.ForeignKey(Order, models.PROTECT, related_name="revisions", db_index=False)
    version = models.PositiveIntegerField(help_text="The order version that this was.")
    document = models.JSONField(help_text="The order, in the shape in which orders are submitted.")
    replaced_at = models.DateTimeField()

    class Meta:
        ordering = ["order_id", "version"]
        constraints = [
            models.UniqueConstraint(fields=["order", "version"], name="one_revision_per_version")
        ]

    def __str__(self) -> str:
        return f"version {self.version} of order {self.order_id}"


class AmendmentRequest(StatefulModel):
    """Somebody wants an order to be another one, and what became of that.

    ASSESSING, as long as something that it concerns is under way → APPLIED or DENIED; or
    WAITING_FOR_COMPLETION of the order → CHANGE_ORDERED. A newer one has SUPERSEDED it.
    """

    order = models.ForeignKey(Order, models.PROTECT, related_name="amendments", db_index=False)
    number = models.PositiveIntegerField(help_text="From 1 within the order.")
    version = models.PositiveIntegerField(help_text="The order version that it makes.")
    state = StateField(default=AmendmentState.ASSESSING, choices=[(s, s) for s in AmendmentState])
    mode = models.CharField(max_length=20, choices=[(m, m) for m in Mode])
    chosen = models.CharField(
        max_length=20,
        choices=[(m, m) for m in Mode],
        blank=True,
        help_text="How it comes about; empty when in no way.",
    )
    document = models.JSONField(help_text="The revised order, as it was submitted.")
    difference = models.JSONField(default=dict, help_text="What is new about it.")
    assessment = models.JSONField(
        default=dict, help_text="What becomes of each task, and what it costs, as found last."
    )
    refusals = models.JSONField(default=list, blank=True)
    reason = models.TextField()
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    change_order = models.ForeignKey(
        Order,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="made_by",
        help_text="The order that changes what this one has made.",
    )

    class Meta:
        ordering = ["order_id", "number"]
        constraints = [
            states_constraint(states=AmendmentState, name="amendment_state_is_legal"),
            models.UniqueConstraint(fields=["order", "number"], name="one_amendment_per_number"),
            models.UniqueConstraint(
                fields=["order"],
                condition=models.Q(state__in=sorted(AMENDMENT_OPEN)),
                name="one_open_amendment",
            ),
        ]

    def __str__(self) -> str:
        return f"amendment {self.number} of order {self.order_id}"

    @transition(field=state, source=AmendmentState.ASSESSING, target=AmendmentState.APPLIED)
    def apply(self) -> None:
        """The order is the revised one; the next version of its plan runs."""

    @transition(
        field=state,
        source=AmendmentState.ASSESSING,
        target=AmendmentState.WAITING_FOR_COMPLETION,
    )
    def await_completion(self) -> None:
        """Another order changes what this one makes, when it is complete."""

    @transition(
        field=state,
        source=AmendmentState.WAITING_FOR_COMPLETION,
        target=AmendmentState.CHANGE_ORDERED,
    )
    def order_change(self) -> None:
        """The order is complete, and the one that changes it has been submitted."""

    @transition(field=state, source=sorted(AMENDMENT_OPEN), target=AmendmentState.DENIED)
    def deny(self) -> None:
        """`refusals` say why the order stays as it is."""

    @transition(field=state, source=sorted(AMENDMENT_OPEN), target=AmendmentState.SUPERSEDED)
    def give_way(self) -> None:
        """A newer one has come."""
