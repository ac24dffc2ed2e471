"""Holds: what must not go on for the time being, who said so, and why."""

from __future__ import annotations

import enum

from django.db import models


class HoldScope(enum.StrEnum):
    ORDER = "ORDER"
    PLAN = "PLAN"
    ITEM = "ITEM"
    TASK = "TASK"
    TARGET = "TARGET"
    ACTION = "ACTION"
    CUSTOMER = "CUSTOMER"
    CHANGE = "CHANGE"
    """A plan that is given up or changed: nothing new of it is sent until what is under way has
    ended. The engine's own."""


HELD_BY_HAND = tuple(scope for scope in HoldScope if scope is not HoldScope.CHANGE)
"""What people may place a hold on."""


class ClockPolicy(enum.StrEnum):
    """What the clocks that customers were promised do while the hold is there."""

    RUN = "RUN"
    STOP = "STOP"


class Hold(models.Model):
    """An object, never a state: while it is active, nothing in its scope is sent.

    `subject` is the one text by which the claim looks it up (`engine/protection/holds.py`).
    """

    scope = models.CharField(max_length=20, choices=[(s, s) for s in HoldScope])
    subject = models.CharField(max_length=300, help_text="What it holds, such as order:O-17.")
    reason = models.TextField()
    clock_policy = models.CharField(
        max_length=10, default=ClockPolicy.RUN, choices=[(p, p) for p in ClockPolicy]
    )
    until = models.DateTimeField(
        null=True, blank=True, help_text="It ends by itself then; empty: when it is released."
    )
    placed_by = models.CharField(max_length=150)
    placed_at = models.DateTimeField()
    released_by = models.CharField(max_length=150, blank=True, default="")
    released_at = models.DateTimeField(null=True, blank=True)
    release_reason = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(scope__in=[scope.value for scope in HoldScope]),
                name="hold_scope_is_legal",
            ),
            models.CheckConstraint(condition=~models.Q(reason=""), name="hold_has_a_reason"),
        ]
        indexes = [
            # The claim: what is held now.
            models.Index(
                fields=["subject"],
                condition=models.Q(released_at__isnull=True),
                name="hold_active",
            ),
            # The scanner: holds that end by themselves.
            models.Index(
                fields=["until"],
                condition=models.Q(released_at__isnull=True, until__isnull=False),
                name="hold_ending",
            ),
        ]

    def __str__(self) -> str:
        return f"hold on {self.subject}"
