"""What is new about a revised order, item by item (reference §20). Pure.

An item is the same one as before when it has the same `item_id`, asks for the same of the same
offering and asset, and stands within the same line. Then it keeps its position, and with it its
tasks and its asset. Anything else is another item: the one before is gone, and one has come, with
a position that no item of the order has ever had.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fulfillment.definitions.concern import ChangeKind
from oms.intake.requests import ItemRequest, OrderFault, OrderRequest

WHOLE = 0
"""In `changed`: the order as such, where items have their positions."""
_NOWHERE = -1
_KINDS: Mapping[ChangeKind, tuple[str, ...]] = {
    ChangeKind.QUANTITY: ("quantity",),
    ChangeKind.CHARACTERISTICS: ("characteristics",),
    ChangeKind.ADDRESS: ("place",),
    ChangeKind.CONTACT: ("parties",),
    ChangeKind.PRICE: ("one_off_price", "recurring_price", "currency"),
}
_ROW = (*(name for names in _KINDS.values() for name in names), "relations")
_KINDS_OF_ORDER: Mapping[ChangeKind, tuple[str, ...]] = {
    ChangeKind.CONTACT: ("customer_name", "customer_tier", "customer_email"),
    ChangeKind.PRICE: ("billing_account",),
}
_BESIDE = ("region", "channel", "requested_at", "promised_at", "priority")
"""Of the order: tasks that use them are concerned by what they ask for, and by no kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Between an order and its revision; items by their positions."""

    revised: OrderRequest
    """With the position of every item."""
    changed: Mapping[int, frozenset[ChangeKind]]
    """Items that stay and are not what they were; `WHOLE`: the order."""
    come: tuple[int, ...]
    gone: tuple[int, ...]
    rewritten: tuple[int, ...]
    """Items that stay, and of which anything at all is new: more than `changed`, which leaves out
    what no task can ask for."""
    is_any: bool
    """Whether anything is new, dates and the like included."""

    def document(self, names: Mapping[int, str]) -> dict[str, Any]:
        """`names` are the items' own names by position, old ones and new ones."""
        return {
            "order": sorted(self.changed.get(WHOLE, ())),
            "items": {
                names[position]: sorted(kinds)
                for position, kinds in sorted(self.changed.items())
                if position != WHOLE
            },
            "come": [names[position] for position in self.come],
            "gone": [names[position] for position in self.gone],
        }


def differ(*, before: OrderRequest, after: OrderRequest, used: Collection[int] = ()) -> Difference:
    """What `after` makes new of `before`, whose items have their positions.

    `used` are all positions that items of the order have ever had.
    """
    known = {item.item_id: (position, item) for position, item in before.lines()}
    free = max((*used, *(position for position, _ in before.lines())), default=0)
    placed: list[ItemRequest] = []
    at: dict[str, int] = {}
    changed: dict[int, frozenset[ChangeKind]] = {}
    rewritten: list[int] = []
    come: list[int] = []
    for item in after.items:
        position, was = known.get(item.item_id, (0, None))
        if was is not None and _is_same(was, item) and _stays_within(was, item, known, at):
            kinds = frozenset(kind for kind, names in _KINDS.items() if _differs(was, item, names))
            if kinds:
                changed[position] = kinds
            if _differs(was, item, _ROW):
                rewritten.append(position)
        else:
            free += 1
            position = free
            come.append(position)
        at[item.item_id] = position
        placed.append(replace(item, position=position))
    kept = {item.position for item in placed}
    gone = tuple(position for position, _ in before.lines() if position not in kept)
    whole = {kind for kind, names in _KINDS_OF_ORDER.items() if _differs(before, after, names)}
    beside = bool(whole) or _differs(before, after, _BESIDE)
    if come or gone:
        whole.add(ChangeKind.ITEMS)
    if whole:
        changed[WHOLE] = frozenset(whole)
    return Difference(
        revised=replace(after, items=placed),
        changed=changed,
        come=tuple(come),
        gone=gone,
        rewritten=tuple(rewritten),
        is_any=bool(come or gone or rewritten) or beside,
    )


def unchangeable(*, before: OrderRequest, after: OrderRequest) -> list[OrderFault]:
    """What an amendment can't make another, and the revised order says otherwise."""
    faults = []
    if after.external_id != before.external_id:
        faults.append(
            OrderFault(
                code="amendment.external_id_changed",
                path="external_id",
                message=f"The order is {before.external_id}; another name is another order.",
            )
        )
    if after.customer_id != before.customer_id:
        faults.append(
            OrderFault(
                code="amendment.customer_changed",
                path="customer.id",
                message=f"The order is that of customer {before.customer_id}; cancel it and submit "
                "another one for another customer.",
            )
        )
    return faults


def leaving_out(*, order: OrderRequest, item_ids: Collection[str]) -> OrderRequest:
    """The order without these items and what is nested within them, and without what relates
    others to them.

    An amendment with it is what the cancellation of single items is. Unknown names leave the
    order as it is; whoever asks has looked whether it has them.
    """
    left_out = set(item_ids)
    for item in order.items:  # Nested lines come after the line around them.
        if item.parent_id in left_out:
            left_out.add(item.item_id)
    left = [item for item in order.items if item.item_id not in left_out]
    return replace(order, items=[_unrelated(item, left_out) for item in left])


def _unrelated(item: ItemRequest, left_out: Collection[str]) -> ItemRequest:
    """Without its relations to what is not there any more."""
    relations = [one for one in item.relations if one["item_id"] not in left_out]
    return item if len(relations) == len(item.relations) else replace(item, relations=relations)


def _is_same(was: ItemRequest, item: ItemRequest) -> bool:
    return (was.offering, str(was.action), was.asset) == (
        item.offering,
        str(item.action),
        item.asset,
    )


def _stays_within(
    was: ItemRequest,
    item: ItemRequest,
    known: Mapping[str, tuple[int, ItemRequest]],
    at: Mapping[str, int],
) -> bool:
    """Whether the line around it is the same one, by name and by position."""
    if was.parent_id != item.parent_id:
        return False
    if not item.parent_id:
        return True
    before, _ = known.get(item.parent_id, (_NOWHERE, None))
    return before == at.get(item.parent_id)


def _differs(was: Any, now: Any, names: Collection[str]) -> bool:
    return any(_plain(getattr(was, name)) != _plain(getattr(now, name)) for name in names)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
