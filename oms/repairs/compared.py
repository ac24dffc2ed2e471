"""An order and its revision side by side, as tables that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from fulfillment.operations.showing import (
    MOST_ROWS,
    NOTHING,
    Cell,
    Change,
    Mark,
    Table,
    amount,
    changes,
    fates_table_of,
)
from oms.changes.documents import as_submitted
from oms.intake.requests import OrderRequest
from oms.repairs.quoted import money_table

_CHANGED = Mark(words="changes", sign="≠", tone="moving")
_NEW = Mark(words="is new", sign="+", tone="moving")
_GONE = Mark(words="goes", sign="−", tone="trouble")


def difference_table(*, before: OrderRequest, after: OrderRequest) -> Table:
    """Item by item and field by field, what is another; and of the order what belongs to none."""
    was, now = as_submitted(before), as_submitted(after)
    rows = [
        *(
            ("The order", _CHANGED, one.what, one.before, one.after)
            for one in _differing(_around(was), _around(now))
        ),
        *_items(dict(_lines(was["items"])), dict(_lines(now["items"]))),
    ]
    told = "Nothing of what was ordered is another." if not rows else ""
    if len(rows) > MOST_ROWS:
        told = f"The first {MOST_ROWS} of {len(rows)}."
    return Table(
        title="What is another about the order",
        columns=("Item", "It …", "What", "Before", "After"),
        rows=tuple(rows[:MOST_ROWS]),
        told=told,
        tells=("difference",),
    )


def price_table(*, before: OrderRequest, after: OrderRequest) -> Table:
    """What all of it is sold for, before and after, by currency."""
    was, now = _prices(before), _prices(after)
    rows = []
    for kind, currency in dict.fromkeys((*was, *now)):
        old, new = (prices.get((kind, currency), Decimal(0)) for prices in (was, now))
        sign = "+" if new > old else ""
        more = f"{sign}{amount(new - old, currency)}" if new != old else "the same"
        rows.append((kind, amount(old, currency), amount(new, currency), more))
    return Table(
        title="The price of the order",
        columns=("", "Before", "After", "Difference"),
        rows=tuple(rows),
        told="" if rows else "No prices are known.",
    )


def assessment_tables(assessed: Mapping[str, Any]) -> tuple[Table, ...]:
    """What is undone and done anew for it, and what that costs; of a stored assessment."""
    if not assessed:
        return ()
    tables = [fates_table_of(tasks=assessed["tasks"], tells=("assessment",))]
    if assessed["charges"]:
        tables.append(money_table(assessed["charges"]))
    return tuple(tables)


def _items(
    was: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[Cell, ...]]:
    for item in dict.fromkeys((*was, *now)):
        if item not in now:
            yield item, _GONE, "", _summary(was[item]), NOTHING
        elif item not in was:
            yield item, _NEW, "", NOTHING, _summary(now[item])
        else:
            for one in _differing(was[item], now[item]):
                yield item, _CHANGED, one.what, one.before, one.after


def _differing(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    return changes(before=was, after=now)


def _around(order: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in order.items() if name != "items"}


def _lines(
    items: Sequence[Mapping[str, Any]], *, within: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line by its name, with that of the line around it."""
    for item in items:
        line = {name: value for name, value in item.items() if name != "items"}
        yield item["item_id"], {**line, "price": _price(item["price"]), "within": within}
        yield from _lines(item["items"], within=item["item_id"])


def _price(price: Mapping[str, Any] | None) -> dict[str, str]:
    """The same text for the same amount, however many noughts it was written with."""
    if price is None:
        return {}
    kinds = (("once", price["one_off"]), ("a period", price["recurring"]))
    return {kind: amount(one, price["currency"]) for kind, one in kinds if one is not None}


def _summary(item: Mapping[str, Any]) -> str:
    sold = " and ".join(f"{price} {kind}" for kind, price in item["price"].items())
    at = f", at {sold}" if sold else ""
    return f"{item['quantity']} × {item['offering']} ({item['action']}){at}"


def _prices(order: OrderRequest) -> dict[tuple[str, str], Decimal]:
    sums: dict[tuple[str, str], Decimal] = {}
    for item in order.items:
        for kind, price in (("Once", item.one_off_price), ("A period", item.recurring_price)):
            if price is not None:
                of = kind, item.currency
                sums[of] = sums.get(of, Decimal(0)) + Decimal(price) * item.quantity
    return sums
