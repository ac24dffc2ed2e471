"""Whether what customers have is billed, and what is billed is there (reference §31.4)."""

from __future__ import annotations

import enum
from datetime import datetime

from django.db import models

from oms.models.orders import OrderItem
from oms.states import ItemAction


class Leak(enum.StrEnum):
    """What is there without the other."""

    ACTIVE_WITHOUT_BILLING = "ACTIVE_WITHOUT_BILLING"
    BILLED_WITHOUT_SERVICE = "BILLED_WITHOUT_SERVICE"


class BillingMatch(models.Model):
    """Service and billing of one item, from the first of the two on; a row stays when both are
    there, so that hearing of one again opens nothing. It goes when both are undone, as soon as its
    case is closed."""

    item = models.OneToOneField(
        OrderItem, models.PROTECT, primary_key=True, related_name="billing_match"
    )
    service_at = models.DateTimeField(
        null=True, blank=True, help_text="Since then the service is as it was ordered."
    )
    billed_at = models.DateTimeField(
        null=True, blank=True, help_text="Since then it is billed as it was ordered."
    )
    due_at = models.DateTimeField(
        null=True, blank=True, help_text="When it is looked at next; empty when both are there."
    )
    filed = models.BooleanField(default=False, help_text="A case has been opened about it.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(service_at__isnull=False)
                | models.Q(billed_at__isnull=False)
                | models.Q(filed=True),
                name="one_of_both_is_there",
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at", "item"],
                condition=models.Q(due_at__isnull=False),
                name="billing_match_due",
            ),
        ]

    def __str__(self) -> str:
        return f"billing of item {self.item_id}"

    @property
    def since(self) -> datetime:
        """When the first of the two came; one of them is there."""
        return min(at for at in (self.service_at, self.billed_at) if at is not None)

    @property
    def leak(self) -> Leak | None:
        """None when both are there, or neither is any more; what is to end and is still billed is
        billed without service.

        Read it with its item.
        """
        if (self.service_at is None) == (self.billed_at is None):
            return None
        ends = self.item.action == ItemAction.DISCONNECT
        active = (self.service_at is not None) is not ends
        return Leak.ACTIVE_WITHOUT_BILLING if active else Leak.BILLED_WITHOUT_SERVICE
