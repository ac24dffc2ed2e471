"""An order rewritten line by line, as a form asks for it.

Only what somebody has entered otherwise than it was shown is taken over. So the order may be
rewritten as a whole at the same time, and what stands there is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

Document = Mapping[str, Any]
"""An order as it is submitted (`oms.changes.documents`)."""
PRICES = ("one_off", "recurring")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an order, `depth` from 1."""

    name: str
    item: dict[str, Any]
    depth: int

    @property
    def price(self) -> Mapping[str, Any]:
        found = self.item.get("price")
        return found if isinstance(found, Mapping) else {}

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Those of one value; lists and objects are written as JSON alone."""
        found = self.item.get("characteristics")
        known = found if isinstance(found, Mapping) else {}
        return {name: one for name, one in known.items() if not isinstance(one, list | dict)}


def lines_of(order: Document) -> list[Line]:
    """Every line before those that are nested in it; none where the document is no order."""
    return list(_below(order.get("items"), 1, iter(range(1, 100_000))))


def entries_of(line: Line) -> dict[str, str]:
    """What a form asks for of this line, as it is now: by name, as text."""
    return {
        "quantity": _written(line.item.get("quantity", 1)),
        **{name: _amount(line.price.get(name)) for name in PRICES if line.price},
        **{f"attribute-{at}": _written(one) for at, one in enumerate(line.attributes.values())},
        "attributes": "",
        "is_out": "",
    }


def rewritten(*, order: Document, shown: Document, entered: Mapping[str, str]) -> dict[str, Any]:
    """The order with what was entered beside the lines of `shown`.

    `entered` is by the line's place in `lines_of(shown)` and the name of the entry: `0-quantity`;
    `new-…` is one more line. A line that the order does not have any more stays away.
    """
    made = deepcopy(dict(order))
    there = {line.name: line for line in lines_of(made)}
    out = set()
    for at, was in enumerate(lines_of(shown)):
        line = there.get(was.name)
        if line is None:
            continue
        for entry, before in entries_of(was).items():
            text = entered.get(f"{at}-{entry}", before).strip()
            if text == before:
                continue
            if entry == "is_out":
                out.add(was.name)
            else:
                _enter(line, was, entry, text)
    made["items"] = _without(made.get("items"), [id(there[name].item) for name in out])
    new = {name: text for name, text in entered.items() if name.startswith("new-")}
    _add(made, {name.removeprefix("new-"): text.strip() for name, text in new.items()}, there)
    return made


def faults_of(order: Document) -> Iterator[str]:
    """What was entered and is no number, in plain words."""
    for line in lines_of(order):
        quantity = line.item.get("quantity", 1)
        if type(quantity) is not int or quantity < 1:
            yield f"The quantity of {line.name} is a whole number from 1, and not {quantity!r}."
        for name in PRICES:
            price = line.price.get(name)
            if price is not None and not _is_amount(price):
                yield f"The price of {line.name} is an amount such as 9.90, and not {price!r}."


def _below(items: Any, depth: int, numbers: Iterator[int]) -> Iterator[Line]:
    for item in items if isinstance(items, list) else ():
        number = next(numbers)
        if isinstance(item, dict):
            yield Line(name=str(item.get("item_id") or number), item=item, depth=depth)
            yield from _below(item.get("items"), depth + 1, numbers)


def _enter(line: Line, was: Line, entry: str, text: str) -> None:
    if entry == "quantity":
        line.item["quantity"] = _value(text)
    elif entry in PRICES:
        line.item["price"] = {**line.price, entry: text or None}
    elif entry == "attributes":
        line.item["characteristics"] = {**_characteristics(line), **_attributes(text)}
    else:
        name, before = list(was.attributes.items())[int(entry.removeprefix("attribute-"))]
        known = _characteristics(line)
        if text:
            # What was text stays text: 100 is a number only where a number was.
            line.item["characteristics"] = known | {
                name: text if isinstance(before, str) else _value(text)
            }
        else:
            line.item["characteristics"] = {key: one for key, one in known.items() if key != name}


def _characteristics(line: Line) -> dict[str, Any]:
    found = line.item.get("characteristics")
    return dict(found) if isinstance(found, Mapping) else {}


def _without(items: Any, out: list[int]) -> Any:
    if not isinstance(items, list):
        return items
    kept = [item for item in items if id(item) not in out]
    for item in kept:
        if isinstance(item, dict) and "items" in item:
            item["items"] = _without(item["items"], out)
    return kept


def _add(order: dict[str, Any], told: Mapping[str, str], there: Mapping[str, Line]) -> None:
    if not told.get("offering"):
        return
    item: dict[str, Any] = {
        "item_id": told.get("name") or _free(there),
        "action": told.get("action") or "add",
        "offering": told["offering"],
        "quantity": _value(told.get("quantity") or "1"),
        "characteristics": _attributes(told.get("attributes", "")),
    }
    if told.get("asset"):
        item["asset"] = told["asset"]
    prices = {name: told[name] for name in PRICES if told.get(name)}
    if prices:
        item["price"] = {**prices, "currency": told.get("currency", "")}
    within = there.get(told.get("within", ""))
    into = order if within is None else within.item
    into["items"] = [*(into.get("items") or ()), item]


def _free(there: Mapping[str, Line]) -> str:
    return next(name for name in map(str, range(len(there) + 1, 100_000)) if name not in there)


def _attributes(text: str) -> dict[str, Any]:
    """A line for each: `speed = 100`."""
    found = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and name.strip():
            found[name.strip()] = _value(value.strip())
    return found


def _written(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _amount(price: Any) -> str:
    """Without the zeros behind the hundredths: `5.00` of `5.0000`."""
    text = _written(price)
    whole, point, part = text.partition(".")
    return f"{whole}.{part[:2]}{part[2:].rstrip('0')}" if point else text


def _value(text: str) -> Any:
    """A number, yes or no, or text in quotation marks, as JSON has them; anything else is text."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(found, list | dict) else found


def _is_amount(price: Any) -> bool:
    try:
        return Decimal(str(price)).is_finite()
    except InvalidOperation:
        return False
