"""What mappings and expressions of templates may read, with types.

Names are dotted; types are those of `expressions.compile_expression`. The values lie nested
under the same names: `order.customer.id` is scope["order"]["customer"]["id"].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

ORDER_NAMES: Mapping[str, str] = {
    "id": "string",
    "external_id": "string",
    "version": "integer",
    "customer.id": "string",
    "customer.name": "string",
    "customer.tier": "string",
    "billing_account": "string",
    "region": "string",
    "channel": "string",
    "requested_at": "string?",
    "promised_at": "string?",
    "priority": "integer",
    "total": "number?",
    "currency": "string?",
}
"""What `order.` offers. Instants are RFC 3339 texts; `total` is the sum of the items' one-off
prices times their quantities, null (as is `currency`) without prices or in several currencies."""
ITEM_NAMES: Mapping[str, str] = {
    "item_id": "string",
    "position": "integer",
    "action": "string",
    "offering": "string",
    "quantity": "integer",
    "characteristics": "object",
    "price.one_off": "string?",
    "price.recurring": "string?",
    "price.currency": "string",
    "place": "object",
    "asset": "any",
}
"""What `item.`, and for order-level tasks `items.`, offers. Prices are texts with two decimals."""
PLAN_NAMES: Mapping[str, str] = {
    "created_at": "string",
    "order_version": "integer",
    "in_jeopardy": "boolean",
}
"""What `plan.` offers; `created_at` is an RFC 3339 text. In jeopardy it will be done later than was
promised, as far as can be told at the time."""


def output_type(*, type_: str, optional: bool, of_every_item: bool) -> str:
    """The type of a task's output as others read it."""
    spelled = f"{type_}?" if optional else type_
    return f"list({spelled})" if of_every_item else spelled


@lru_cache(maxsize=64)
def names_under(roots: frozenset[str]) -> Mapping[str, str]:
    """The names under those of the roots order, item, items, plan and element that are given."""
    names: dict[str, str] = {}
    for root, members in (("order", ORDER_NAMES), ("item", ITEM_NAMES), ("plan", PLAN_NAMES)):
        if root in roots:
            names.update({f"{root}.{name}": spelled for name, spelled in members.items()})
    if "items" in roots:
        names["items"] = "list(object)"
        names.update({f"items.{name}": f"list({spelled})" for name, spelled in ITEM_NAMES.items()})
    if "element" in roots:
        names["element"] = "any"
    return MappingProxyType(names)


@lru_cache(maxsize=16)
def members_of(root: str) -> Mapping[str, frozenset[str] | None]:
    """The fields of order, item, items or plan; the members of each, or None when free."""
    names = {"order": ORDER_NAMES, "plan": PLAN_NAMES}.get(root, ITEM_NAMES)
    fields: dict[str, frozenset[str] | None] = {}
    for name, spelled in names.items():
        field, _, member = name.partition(".")
        if spelled in ("object", "any"):
            fields[field] = None
        else:
            known = fields.get(field) or frozenset()
            fields[field] = known | ({member} if member else frozenset())
    return fields


def roots_of(
    *, item_level: bool, plan: bool, element: bool, subprocess: bool = False
) -> frozenset[str]:
    """The roots that every template has at hand; a sub-process does not know its user's items."""
    extra: Iterable[tuple[str, bool]] = (("plan", plan), ("element", element))
    level = "item" if item_level else "items"
    roots = {"order", level, *(root for root, there in extra if there)}
    return frozenset(roots - {level} if subprocess else roots)
