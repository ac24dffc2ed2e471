"""What happened to an order, in plain words and in the sequence in which it happened."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, datetime

from django.db.models import Q

from fulfillment.models import Operation, Task, Transition
from oms.evidence.members import members
from oms.models import Notification, Order

Line = tuple[datetime, str]


def timeline(order: Order) -> Iterator[str]:
    """One line for each thing that happened; times are UTC."""
    operations = next(rows for name, rows in members(order) if name == Operation._meta.db_table)
    yield f"Order {order.reference}, {order.external_id} of {order.customer_name}.\n"
    yield "Every time is UTC. The number in brackets is the row of the audit trail.\n\n"
    merged: Iterator[Line] = heapq.merge(
        _transitions(order),
        _operations(operations.order_by("happened_at", "pk").iterator(chunk_size=500)),
        _messages(order),
        key=lambda line: line[0],
    )
    for at, text in merged:
        yield f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}  {text}\n"


def _transitions(order: Order) -> Iterator[Line]:
    keys = dict(Task.objects.filter(fulfillment=order.fulfillment_id).values_list("pk", "key"))
    rows = Transition.objects.filter(fulfillment=order.fulfillment_id).order_by("sequence")
    latest: datetime | None = None
    for row in rows.iterator(chunk_size=1000):
        name = f"{row.entity} {row.entity_id}"
        if row.entity == "task" and row.entity_id.isdigit():
            name = f"task {keys.get(int(row.entity_id), row.entity_id)}"
        if not row.from_state:
            what = f"begins as {row.to_state}"
        elif row.from_state == row.to_state:
            what = f"stays {row.to_state} ({row.name})"
        else:
            what = f"was {row.from_state}, is {row.to_state}"
        # Two units may have read the clock in another sequence than they were written.
        latest = row.occurred_at if latest is None else max(latest, row.occurred_at)
        yield latest, f"[{row.sequence}] {name} {what}; by {row.actor}: {row.cause}"


def _operations(rows: Iterator[Operation]) -> Iterator[Line]:
    for row in rows:
        told = f"BY HAND: {row.kind} {row.subject}; by {row.actor}: {row.reason}"
        if row.authority:
            told += f" Allowed by: {row.authority}."
        if row.evidence:
            told += f" Evidence: {row.evidence}"
        yield row.happened_at, told


def _messages(order: Order) -> Iterator[Line]:
    rows = Notification.objects.filter(Q(order=order)).order_by("created_at", "pk")
    for row in rows.iterator(chunk_size=500):
        yield row.created_at, f"TOLD THE CUSTOMER: {row.occasion} by {row.channel}: {row.subject}"
