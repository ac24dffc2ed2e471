"""What each version of an order has changed, value by value, and who asked for it (§19, §20)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from oms.changes.documents import as_submitted
from oms.intake.feasibility import request_of
from oms.models import (
    AMENDMENT_OPEN,
    AmendmentRequest,
    AmendmentState,
    CancellationRequest,
    Order,
    OrderRevision,
)

Document = Mapping[str, Any]
_LONGEST = 400
_PLAIN = ("action", "offering", "quantity", "asset", "parties", "relations")
_SPREAD = ("characteristics", "place", "price")
_AMOUNTS = {"price one_off", "price recurring"}
_ITEM_WORDS = {
    "asset": "asset",
    "price one_off": "price, once",
    "price recurring": "price, recurring",
    "price currency": "currency",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value that is another one now; empty texts: it was not there, or is gone."""

    item: str
    """Its `item_id`; empty: the order as a whole."""
    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    number: int
    since: datetime
    changes: tuple[Change, ...]
    """Against the version before; none of the first."""
    is_current: bool
    request: AmendmentRequest | None
    """By which it came about; None: it was submitted so."""
    revision_id: int | None
    """The row that keeps all of it as it was; None of the current one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An amendment that has made no version (yet)."""

    request: AmendmentRequest
    changes: tuple[Change, ...]
    """What it would change of the order as it is now; of what is open alone."""
    why_not: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    versions: tuple[Version, ...]
    """The newest first."""
    proposals: tuple[Proposal, ...]
    cancellations: tuple[CancellationRequest, ...]

    @property
    def is_plain(self) -> bool:
        """Nobody has ever wanted it to be another one."""
        return len(self.versions) == 1 and not self.proposals and not self.cancellations


def versions_of(order: Order) -> Versions:
    """Three queries; read the order with its items prefetched."""
    revisions = list(OrderRevision.objects.filter(order=order).order_by("version"))
    requests = list(
        AmendmentRequest.objects.filter(order=order)
        .select_related("change_order")
        .defer("assessment", "difference")
        .order_by("number")
    )
    applied = {one.version: one for one in requests if one.state == AmendmentState.APPLIED}
    now = as_submitted(request_of(order))
    stages = [(revision.version, revision.document) for revision in revisions]
    stages.append((order.version, now))
    began = [order.submitted_at, *(revision.replaced_at for revision in revisions)]
    made = [
        Version(
            number=number,
            since=since,
            changes=tuple(changes(before=stages[at - 1][1], after=document)) if at else (),
            is_current=number == order.version,
            request=applied.get(number),
            revision_id=revisions[at].pk if at < len(revisions) else None,
        )
        for at, ((number, document), since) in enumerate(zip(stages, began, strict=True))
    ]
    return Versions(
        versions=tuple(reversed(made)),
        proposals=tuple(
            Proposal(
                request=one,
                changes=tuple(changes(before=now, after=one.document))
                if one.state in AMENDMENT_OPEN
                else (),
                why_not=" ".join(dict.fromkeys(refusal["message"] for refusal in one.refusals)),
            )
            for one in reversed(requests)
            if one.state != AmendmentState.APPLIED
        ),
        cancellations=tuple(
            CancellationRequest.objects.filter(order=order).defer("quote").order_by("-number")
        ),
    )


def changes(*, before: Document, after: Document) -> Iterator[Change]:
    """Pure: what is another value in `after`, the order as a whole first, then item by item."""
    yield from _compared("", _of_order(before), _of_order(after))
    was, now = dict(_items(before)), dict(_items(after))
    for name in dict.fromkeys([*was, *now]):
        if name not in now:
            yield Change(item=name, what="the whole item", before=_summary(was[name]), after="")
        elif name not in was:
            yield Change(item=name, what="the whole item", before="", after=_summary(now[name]))
        else:
            yield from _compared(name, was[name], now[name])


def _compared(item: str, was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Change]:
    for what in dict.fromkeys([*was, *now]):
        before, after = was.get(what, ""), now.get(what, "")
        if before != after:
            yield Change(item=item, what=_ITEM_WORDS.get(what, what), before=before, after=after)


def _of_order(document: Document) -> dict[str, str]:
    flat = {
        name.replace("_", " "): _text(value)
        for name, value in document.items()
        if name not in ("items", "customer", "external_id")
    }
    customer = document.get("customer") or {}
    return {**{f"customer {name}": _text(value) for name, value in customer.items()}, **flat}


def _items(document: Document, parent: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    for item in document.get("items") or ():
        values = {name: _text(item.get(name)) for name in _PLAIN}
        values["part of"] = parent
        for name in _SPREAD:
            inner = item.get(name) or {}
            values |= {f"{name} {key}": _text(value) for key, value in inner.items()}
        for name in _AMOUNTS & values.keys():
            values[name] = _amount(values[name])
        yield item["item_id"], values
        yield from _items(item, parent=item["item_id"])


def _summary(values: Mapping[str, str]) -> str:
    return f"{values['action']} {values['quantity']} × {values['offering']}"


def _amount(text: str) -> str:
    """The same text for the same amount, however many noughts it was written with: as money is
    written, with two places or more."""
    if not text:
        return ""
    amount = Decimal(text).normalize()
    return f"{amount:.2f}" if int(amount.as_tuple().exponent) > -2 else f"{amount:f}"


def _text(value: Any) -> str:
    if value in (None, "", [], {}):
        return ""
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}…"
