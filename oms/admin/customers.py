"""What customers have, what they will have, and what they were told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from unfold.decorators import display

from fulfillment.admin.reading import (
    NewestValues,
    ReadOnlyAdmin,
    badge,
    link,
    pretty,
)
from fulfillment.definitions.signs import Sign
from oms.models import Asset, AssetState, Notification, NotificationState, PendingAsset

NOTIFICATION_SIGNS: Mapping[str, Sign] = {
    NotificationState.QUEUED: ("◔", "moving"),
    NotificationState.SENT: ("✓", "done"),
    NotificationState.FAILED: ("✗", "failed"),
}
ASSET_SIGNS: Mapping[str, Sign] = {
    AssetState.ACTIVE: ("✓", "done"),
    AssetState.INACTIVE: ("⊘", "waiting"),
}


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "order_link",
        "occasion",
        "channel",
        "recipient",
        "state_badge",
        "attempts",
        "created_at",
        "sent_at",
    )
    list_filter = ("state", "channel", ("occasion", NewestValues))
    list_select_related = ("order",)
    list_left_out = ("body",)
    search_fields = ("order__reference",)
    search_help_text = "The order's reference"
    fields = (
        ("order_link", "order_version"),
        ("occasion", "channel"),
        ("state_badge", "recipient"),
        ("created_at", "sent_at"),
        ("attempts", "next_attempt_at"),
        "reason",
        "subject",
        "body",
    )
    readonly_fields = ("order_link", "state_badge")

    @display(description="state")
    def state_badge(self, row: Notification) -> str:
        return badge(row.state, NOTIFICATION_SIGNS)

    @display(description="order")
    def order_link(self, row: Notification) -> str:
        return link(row.order)


class _Assets(ReadOnlyAdmin):
    """What assets and what is expected of them have in common."""

    list_select_related = ("order", "client")
    list_left_out = ("characteristics", "place")
    search_fields = ("asset_id", "customer_id", "order__reference")
    search_help_text = "Asset, customer, or the order's reference"

    @display(description="order")
    def order_link(self, row: Any) -> str:
        return link(row.order)

    @display(description="characteristics")
    def characteristics_text(self, row: Any) -> str:
        return pretty(row.characteristics or None)

    @display(description="place")
    def place_text(self, row: Any) -> str:
        return pretty(row.place or None)


@admin.register(Asset)
class AssetAdmin(_Assets):
    list_display = (
        "asset_id",
        "customer_id",
        "offering",
        "quantity",
        "state_badge",
        "since",
        "order_link",
    )
    list_filter = ("state", ("offering", NewestValues))
    fields = (
        ("asset_id", "client"),
        ("customer_id", "offering"),
        ("quantity", "state_badge"),
        ("since", "changed_at"),
        "order_link",
        "characteristics_text",
        "place_text",
    )
    readonly_fields = ("state_badge", "order_link", "characteristics_text", "place_text")

    @display(description="state")
    def state_badge(self, row: Asset) -> str:
        return badge(row.state, ASSET_SIGNS)


@admin.register(PendingAsset)
class PendingAssetAdmin(_Assets):
    list_display = (
        "asset_id",
        "customer_id",
        "change",
        "offering",
        "expected_badge",
        "since",
        "order_link",
    )
    list_filter = ("change", ("offering", NewestValues))
    fields = (
        ("asset_id", "client"),
        ("customer_id", "offering"),
        ("quantity", "change"),
        ("expected_badge", "since"),
        ("order_link", "position"),
        "characteristics_text",
        "place_text",
    )
    readonly_fields = ("expected_badge", "order_link", "characteristics_text", "place_text")

    @display(description="expected")
    def expected_badge(self, row: PendingAsset) -> str:
        return badge(row.expected_state, ASSET_SIGNS)
