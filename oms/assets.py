"""Reading the installed base: each asset as it is, and beside it what orders will make of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain

from oms.models import Asset, Order, OrderItem, PendingAsset
from oms.states import ItemAction


@dataclass(slots=True, kw_only=True)
class Known:
    """One asset. `real` is None while it is only expected."""

    asset_id: str
    customer_id: str
    real: Asset | None = None
    pending: list[PendingAsset] = field(default_factory=list)
    """What orders under way will change, the oldest order first."""


def page(*, client_id: int, customer_id: str, after: str, limit: int) -> list[Known]:
    """A customer's assets by their ids, those after `after`; at most `limit`."""
    mine = {"client_id": client_id, "customer_id": customer_id, "asset_id__gt": after}
    names = (
        model.objects.filter(**mine)
        .order_by("asset_id")
        .values_list("asset_id", flat=True)
        .distinct()[:limit]
        for model in (Asset, PendingAsset)
    )
    wanted = sorted(set(chain.from_iterable(names)))[:limit]
    return _known(client_id, wanted, customer_id=customer_id)


def find(*, client_id: int, asset_id: str) -> Known | None:
    """The asset that this client calls so."""
    return next(iter(_known(client_id, [asset_id])), None)


def of_order(order: Order) -> list[Known]:
    """The assets that an order is about, by its items; read it with its items prefetched."""
    wanted = [name for item in order.items.all() if (name := asset_id_of(item, order=order))]
    return _known(order.client_id, wanted, customer_id=order.customer_id)


def asset_id_of(item: OrderItem, *, order: Order) -> str:
    """The asset that an item is about; empty when there is none."""
    if item.action == ItemAction.ADD:
        return f"{order.reference}-{item.position}"
    return item.asset


def _known(client_id: int, names: Collection[str], *, customer_id: str = "") -> list[Known]:
    """In the order of `names`; what nobody knows is left out."""
    if not names:
        return []
    mine = {"client_id": client_id, "asset_id__in": names}
    if customer_id:
        mine["customer_id"] = customer_id
    found: dict[str, Known] = {}
    for asset in Asset.objects.filter(**mine).select_related("order"):
        found[asset.asset_id] = Known(
            asset_id=asset.asset_id, customer_id=asset.customer_id, real=asset
        )
    expected = PendingAsset.objects.filter(**mine).select_related("order", "item")
    for one in expected.order_by("order_id", "position"):
        known = found.setdefault(
            one.asset_id, Known(asset_id=one.asset_id, customer_id=one.customer_id)
        )
        known.pending.append(one)
    return [found[name] for name in names if name in found]
