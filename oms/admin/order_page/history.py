"""What has happened to an order, as its page shows it: which part of it, and how it is led through.

What is asked for stands in the address, so that it can be passed on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict
from django.urls import reverse

from fulfillment.admin.picture_parts import task_address
from fulfillment.admin.reading import Badge, address_of, badge_of, signs_of
from fulfillment.queries.timeline import Cursor, Entry, Wanted
from oms.models import Order, OrderItem
from oms.queries.timeline import SOURCES, history

ANCHOR = "order-history"
_PAGES: Mapping[str, str] = {
    "transition": "admin:fulfillment_transition_change",
    "command": "admin:fulfillment_command_change",
    "attempt": "admin:fulfillment_attempt_change",
    "event": "admin:fulfillment_inboundevent_change",
    "outbox": "admin:fulfillment_outboxevent_change",
    "delivery": "admin:fulfillment_delivery_change",
    "operation": "admin:fulfillment_operation_change",
    "message": "admin:oms_notification_change",
}
_Address = Callable[..., str]
_KNOWN = {source.kind: source.words for source in SOURCES}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEntry:
    entry: Entry
    kind: str
    """In words."""
    address: str
    """Its own page; empty: it has none."""
    task_address: str
    about_address: str
    before: Badge | None
    after: Badge | None
    ids: Sequence[tuple[str, str, str]]
    """What it is called, the id, and the address of everything about it."""
    only_task: str
    """The address of all that has happened to its task."""
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    value: str
    words: str
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    entries: Sequence[ShownEntry]
    kinds: Sequence[Choice]
    items: Sequence[OrderItem]
    wanted: Wanted
    is_filtered: bool
    is_first: bool
    """The page that a new entry would be on."""
    next: str
    """The address of the next page; empty: this is the last one."""
    first: str
    """The address of the first page of the same."""
    turned: str
    """The address of the same from the other end."""
    everything: str
    trouble: str
    """The addresses without any filter, and of the trouble alone."""


def wanted_of(asked: QueryDict) -> Wanted:
    """What a query string asks for; what it can't mean is left out."""
    item = asked.get("item", "")
    return Wanted(
        kinds=frozenset(asked.getlist("kind")) & _KNOWN.keys(),
        task=asked.get("task", "").strip(),
        item=int(item) if item.isascii() and item.isdigit() and len(item) < 10 else None,
        trouble=asked.get("trouble", "") == "1",
        key=asked.get("key", "").strip(),
        oldest_first=asked.get("sort", "") == "oldest",
        after=Cursor.parse(asked.get("from", "")),
    )


def shown_history(*, request: HttpRequest, order: Order) -> History:
    """A page of it, as the address asks; read the order with its fulfillment and items."""
    wanted = wanted_of(request.GET)
    page = history(order=order, wanted=wanted)
    path = reverse("admin:oms_order_change", args=[order.pk])
    asked = [
        *(("kind", kind) for kind in _KNOWN if kind in wanted.kinds),
        *((("task", wanted.task),) if wanted.task else ()),
        *((("item", str(wanted.item)),) if wanted.item is not None else ()),
        *((("trouble", "1"),) if wanted.trouble else ()),
        *((("key", wanted.key),) if wanted.key else ()),
    ]
    sort = [("sort", "oldest")] if wanted.oldest_first else []
    turned = [] if wanted.oldest_first else [("sort", "oldest")]

    def address(*pairs: tuple[str, str]) -> str:
        return f"{path}?{urlencode(pairs)}#{ANCHOR}" if pairs else f"{path}#{ANCHOR}"

    return History(
        entries=[_shown(entry, address) for entry in page.entries],
        kinds=[
            Choice(value=kind, words=words, is_chosen=kind in wanted.kinds)
            for kind, words in _KNOWN.items()
        ],
        items=list(order.items.all()),
        wanted=wanted,
        is_filtered=bool(asked),
        is_first=wanted.after is None and not wanted.oldest_first,
        next=address(*asked, *sort, ("from", str(page.next))) if page.next else "",
        first=address(*asked, *sort) if wanted.after is not None else "",
        turned=address(*asked, *turned),
        everything=address(),
        trouble=address(("trouble", "1")),
    )


def _shown(entry: Entry, address: _Address) -> ShownEntry:
    signs = signs_of(entry.entity)
    page = _PAGES.get(entry.table)
    return ShownEntry(
        entry=entry,
        kind=_KNOWN[entry.kind],
        address=reverse(page, args=[entry.pk]) if page else "",
        task_address=task_address(entry.task_id) if entry.task_id else "",
        about_address=address_of(entry.about) if entry.about and entry.entity != "order" else "",
        before=badge_of(entry.before, signs) if entry.before else None,
        after=badge_of(entry.after, signs) if entry.after else None,
        ids=[(name, value, address(("key", value))) for name, value in entry.ids],
        only_task=address(("task", entry.task)) if entry.task else "",
        details=json.dumps(entry.details, indent=2, ensure_ascii=False) if entry.details else "",
    )
