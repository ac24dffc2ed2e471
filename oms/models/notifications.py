"""What customers are told about their orders, and whether it has left the house."""

from __future__ import annotations

import enum

from django.db import models
from django_fsm import transition

from fulfillment.definitions.customer import Channel
from fulfillment.models.base import StateField, StatefulModel, states_constraint
from oms.models.orders import Order


class NotificationState(enum.StrEnum):
    QUEUED = "QUEUED"
    """To be sent at `next_attempt_at`, which is also the lease of whoever is sending it."""
    SENT = "SENT"
    """E-mail: the mail server has taken it. Webhook: the event is with the outbox."""
    FAILED = "FAILED"
    """Given up; `reason` says why."""


class Notification(StatefulModel):
    """One message to one customer by one channel (reference §25).

    QUEUED → SENT, or FAILED and, by hand, QUEUED again. Its text was made from the order and
    from a template when the occasion came, in the same transaction, and never changes.
    """

    moves_in_units = False  # Whether mail has left the house moves nothing in an order.
    has_moved_when_stored = True  # A webhook is with the outbox at once.

    order = models.ForeignKey(Order, models.PROTECT, related_name="notifications")
    order_version = models.PositiveIntegerField()
    occasion = models.CharField(
        max_length=100, help_text="accepted, completed, delayed, or milestone:<name>."
    )
    channel = models.CharField(max_length=20, choices=[(c, c) for c in Channel])
    recipient = models.CharField(max_length=254)
    subject = models.CharField(max_length=400)
    body = models.TextField()
    state = StateField(
        default=NotificationState.QUEUED,
        choices=[(s, s) for s in NotificationState],
    )
    reason = models.TextField(blank=True, default="", help_text="Why it was not sent so far.")
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            states_constraint(states=NotificationState, name="notification_state_is_legal"),
            models.UniqueConstraint(
                fields=["order", "order_version", "occasion", "channel"],
                name="customer_is_told_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at", "id"],
                condition=models.Q(state=NotificationState.QUEUED),
                name="notification_due",
            ),
            models.Index(
                fields=["id"],
                condition=models.Q(state=NotificationState.FAILED),
                name="notification_failed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.occasion} by {self.channel}"

    @transition(field=state, source=NotificationState.QUEUED, target=NotificationState.SENT)
    def mark_sent(self) -> None:
        """The other side has taken it."""

    @transition(field=state, source=NotificationState.QUEUED, target=NotificationState.FAILED)
    def give_up(self) -> None:
        """It was refused for good, or tried too often."""

    @transition(field=state, source=NotificationState.FAILED, target=NotificationState.QUEUED)
    def queue_again(self) -> None:
        """Somebody has mended what kept it."""
