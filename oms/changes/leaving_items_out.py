"""Cancelling single items: the order without them is a revision of it, made by the engine itself.

So it is decided, carried out and kept as an amendment; only the quote is that of a cancellation.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fulfillment.definitions.assessment import Becomes
from fulfillment.engine.work.unit import Unit
from oms.changes import amending, requesting
from oms.changes.documents import read_back
from oms.changes.errors import AmendmentError
from oms.changes.quoting import Quote
from oms.changes.requesting import Wish
from oms.models import AmendmentRequest, AmendmentState, Mode, Order, OrderItem


def quote(unit: Unit, *, order_id: int, item_ids: Collection[str], reason: str) -> dict[str, Any]:
    """What `leave_out` would do now, of these items; changes nothing. Raises AmendmentError."""
    order = Order.objects.get(pk=order_id)
    found = amending.preview(unit, order_id=order_id, wish=_wish(order, item_ids, reason))
    assert found.assessment is not None
    touched = [fate for fate in found.assessment.fates if fate.becomes is not Becomes.KEPT]
    gone = OrderItem.objects.filter(order=order, position__in=found.difference.gone)
    return Quote(
        order=order,
        items=list(gone),
        names=found.names,
        milestones=list(order.milestones.all()),
        assessment=found.assessment.about(touched),
        tell=None,
    ).document()


def leave_out(
    unit: Unit, *, order_id: int, item_ids: Collection[str], reason: str
) -> AmendmentRequest:
    """Cancel these items, and what is nested in them; the rest of the order goes on.

    What has been left out already, or is about to be, is answered with the request that does it.
    Raises AmendmentError.
    """
    order = Order.objects.get(pk=order_id)
    earlier = _already(order, item_ids)
    if earlier is not None:
        return earlier
    return amending.amend(unit, order_id=order_id, wish=_wish(order, item_ids, reason))


def _wish(order: Order, item_ids: Collection[str], reason: str) -> Wish:
    return Wish(
        order=amending.without_items(order=order, item_ids=item_ids),
        version=requesting.newest_version(order) + 1,
        reason=reason,
        mode=Mode.AMEND,
    )


def _already(order: Order, item_ids: Collection[str]) -> AmendmentRequest | None:
    wanted = set(item_ids)
    pending = requesting.open_request(order)
    if pending is not None and pending.state == AmendmentState.ASSESSING:
        left = {item.item_id for item in read_back(pending.document).items}
        if not wanted & left and _has(order, wanted):
            pending.order = order
            return pending
    if wanted & set(order.items.values_list("item_id", flat=True)):
        return None
    removed = OrderItem.ever.filter(order=order, item_id__in=wanted, removed_in_version__gt=0)
    versions = {item.item_id: item.removed_in_version or 0 for item in removed}
    if versions.keys() != wanted:
        return None
    newest = max(versions.values())
    last = order.amendments.filter(version=newest, state=AmendmentState.APPLIED).last()
    if last is not None:
        last.order = order
    return last


def _has(order: Order, item_ids: Collection[str]) -> bool:
    known = set(order.items.values_list("item_id", flat=True))
    unknown = sorted(set(item_ids) - known)
    if unknown:
        raise AmendmentError(
            "amendment.item_unknown",
            f"{order.reference} has no item {', '.join(map(repr, unknown))}; its `items` have "
            "their `item_id`.",
        )
    return True
