"""What each version of an order has changed, and who wanted what, with their states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fulfillment.admin.reading import Badge, badge_of
from oms.admin.amendments import AMENDMENT_SIGNS
from oms.admin.cancellations import CANCELLATION_SIGNS
from oms.models import CancellationRequest, Order
from oms.queries.versions import Proposal, Version, versions_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownVersions:
    is_plain: bool
    """Nobody has ever wanted it to be another one."""
    versions: Sequence[Version]
    proposals: Sequence[tuple[Badge, Proposal]]
    cancellations: Sequence[tuple[Badge, CancellationRequest]]


def shown_versions(order: Order) -> ShownVersions:
    """Read the order with its items prefetched."""
    found = versions_of(order)
    return ShownVersions(
        is_plain=found.is_plain,
        versions=found.versions,
        proposals=[(badge_of(one.request.state, AMENDMENT_SIGNS), one) for one in found.proposals],
        cancellations=[
            (badge_of(one.state, CANCELLATION_SIGNS), one) for one in found.cancellations
        ],
    )
