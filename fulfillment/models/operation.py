"""The log of what people did to the engine itself: append-only."""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from fulfillment.actions import Action
from fulfillment.models.authority import Approval


class Operation(models.Model):
    """Who changed what by hand, when and why, and how it was before.

    What an operator does to an order stands in that order's audit trail as well.
    """

    kind = models.CharField(max_length=60, help_text="Such as pause_target or place_hold.")
    subject = models.CharField(max_length=300)
    actor = models.CharField(max_length=150)
    reason = models.TextField()
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    authority = models.TextField(
        blank=True, default="", db_default="", help_text="By what it was allowed."
    )
    evidence = models.TextField(
        blank=True, default="", db_default="", help_text="Where what it rests on is seen."
    )
    customer_impact = models.TextField(blank=True, default="", db_default="")
    financial_impact = models.TextField(blank=True, default="", db_default="")
    order_reference = models.CharField(max_length=40, blank=True, default="", db_default="")
    approval = models.ForeignKey(
        Approval, models.PROTECT, null=True, blank=True, related_name="operations"
    )
    happened_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["subject", "-id"], name="operation_by_subject"),
            models.Index(fields=["order_reference", "-id"], name="operation_by_order"),
            # Written in the order of time, like the audit trail.
            BrinIndex(
                fields=["happened_at"],
                autosummarize=True,
                pages_per_range=32,
                name="operation_by_time",
            ),
        ]
        # Every action is a permission, and roles are made of them (fulfillment/authority).
        permissions = [(action.codename, action.words) for action in Action]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"
