"""The installed base: what customers have, and apart from it what their orders will make of it.

installed-base-is-reality: an asset says what is; what is expected stands in the projection.
"""

from __future__ import annotations

import enum

from django.db import models

from oms.models.clients import ApiClient
from oms.models.orders import Order, OrderItem
from oms.states import ItemAction


class AssetState(enum.StrEnum):
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


class Asset(models.Model):
    """A product instance of a customer, as it really is; ids are unique within one client."""

    client = models.ForeignKey(ApiClient, models.PROTECT, related_name="assets")
    asset_id = models.CharField(max_length=100)
    customer_id = models.CharField(max_length=100)
    offering = models.CharField(max_length=200)
    quantity = models.PositiveIntegerField(default=1)
    characteristics = models.JSONField(default=dict, blank=True)
    place = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=20, choices=[(s, s) for s in AssetState])
    since = models.DateTimeField(help_text="It has been in this state since then.")
    order = models.ForeignKey(
        Order, models.PROTECT, related_name="assets", help_text="The order that changed it last."
    )
    changed_at = models.DateTimeField()
    before = models.JSONField(
        default=list,
        db_default=[],
        blank=True,
        help_text="How it was before each change by an order that may still be undone.",
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["asset_id", "client"], name="one_asset_per_id"),
            models.CheckConstraint(
                condition=models.Q(state__in=[state.value for state in AssetState]),
                name="asset_state_is_legal",
            ),
        ]
        indexes = [
            models.Index(fields=["customer_id", "client", "asset_id"], name="asset_by_customer")
        ]

    def __str__(self) -> str:
        return self.asset_id


class PendingAsset(models.Model):
    """What an item of an order under way will make of an asset. Gone when it is real, or the
    order has ended without it."""

    item = models.OneToOneField(OrderItem, models.PROTECT, related_name="pending_asset")
    order = models.ForeignKey(Order, models.PROTECT, related_name="pending_assets")
    position = models.PositiveIntegerField()
    client = models.ForeignKey(ApiClient, models.PROTECT, related_name="pending_assets")
    asset_id = models.CharField(max_length=100)
    customer_id = models.CharField(max_length=100)
    change = models.CharField(
        max_length=20,
        choices=[(a, a) for a in ItemAction if a is not ItemAction.NO_CHANGE],
    )
    offering = models.CharField(max_length=200)
    quantity = models.PositiveIntegerField(default=1)
    characteristics = models.JSONField(default=dict, blank=True)
    place = models.JSONField(default=dict, blank=True)
    expected_state = models.CharField(max_length=20, choices=[(s, s) for s in AssetState])
    follows = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="It has no tasks of its own and comes with the line at this position; 0: with "
        "the order.",
    )
    since = models.DateTimeField()

    class Meta:
        ordering = ["order_id", "position"]
        constraints = [
            models.UniqueConstraint(
                fields=["order", "position"], name="one_pending_asset_per_item"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    change__in=[a.value for a in ItemAction if a is not ItemAction.NO_CHANGE]
                ),
                name="pending_change_is_legal",
            ),
        ]
        indexes = [
            models.Index(fields=["asset_id", "client"], name="pending_by_asset"),
            models.Index(fields=["customer_id", "client", "asset_id"], name="pending_by_customer"),
        ]

    def __str__(self) -> str:
        return f"{self.change} {self.asset_id}"
