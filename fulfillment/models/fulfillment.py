"""The fulfillment of one order: one row, which every change of its plans locks first."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Fulfillment(models.Model):
    """One row per order: the row that every change of the order's plans locks first.

    It knows the order only by an opaque reference, and carries the head of the audit chain.
    """

    order_reference = models.CharField(max_length=64, unique=True)
    correlation_id = models.CharField(max_length=64)
    priority = models.SmallIntegerField(default=0)
    customer = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="Opaque; holds may name it.",
    )
    business_key = models.CharField(
        max_length=220,
        blank=True,
        default="",
        db_default="",
        help_text="By which other orders may name it; opaque.",
    )
    rank = models.BigIntegerField(
        default=0, db_default=0, help_text="Its customer's fair share: the lower goes first."
    )
    audit_sequence = models.IntegerField(default=0)
    audit_head = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [
            # The next order of a customer: behind those that it has already.
            models.Index(fields=["customer", "-rank"], name="fulfillment_fair_share"),
            # Whose milestone another order waits for.
            models.Index(
                fields=["business_key"],
                condition=~models.Q(business_key=""),
                name="fulfillment_by_business_key",
            ),
            # Whose calls and events somebody has found elsewhere.
            models.Index(fields=["correlation_id"], name="fulfillment_by_correlation"),
        ]

    def __str__(self) -> str:
        return self.order_reference
