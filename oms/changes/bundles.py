"""Lines that belong together: one with everything that is nested within it."""

from __future__ import annotations

from collections.abc import Iterable

from oms.intake.requests import OrderRequest


def bundles_of(orders: Iterable[OrderRequest]) -> list[frozenset[int]]:
    """The positions of each outermost line and all that is within it, where that is something.

    Of an order and its revision together: a line that goes or comes belongs to its bundle, too.
    """
    found: dict[int, set[int]] = {}
    for order in orders:
        outermost: dict[str, int] = {}
        for position, item in order.lines():  # A line comes after the one around it.
            root = outermost.get(item.parent_id, position) if item.parent_id else position
            outermost[item.item_id] = root
            found.setdefault(root, {root}).add(position)
    return [frozenset(positions) for positions in found.values() if len(positions) > 1]
