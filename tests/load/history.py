"""Finished orders, many times: what a system holds after months, made in minutes.

Orders that the engine has carried out are copied in the database with everything that belongs to
them. Each copy has names and keys of its own, stands at a time of its own, and its audit trail is
a chain that verifies: every hash is computed anew over what the copied row says. What JSON
documents say of names (payloads, the plan's context) stays as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from django.db import models

from fulfillment.engine.work import audit
from fulfillment.models import (
    Attempt,
    Command,
    Fulfillment,
    OutboxEvent,
    Plan,
    Task,
    Transition,
)
from oms.models import Asset, Milestone, Notification, Order, OrderItem
from tests import by_force
from tests.load.parts import BenchFailed, Tell

SPREAD = timedelta(days=90)
"""The copies' time: the oldest is so much older than its original."""
_ORDERS_AT_ONCE = 2000
_TABLES: tuple[type[models.Model], ...] = (
    # The trail first: the head of the chain stands in the order's row.
    Transition,
    Fulfillment,
    Order,
    OrderItem,
    Milestone,
    Notification,
    Asset,
    Plan,
    Task,
    Command,
    Attempt,
    OutboxEvent,
)
_ENTITIES: dict[str, type[models.Model]] = {"order": Order, "plan": Plan, "task": Task}
_UNSAID = "\0"
# What has come before its row, apart from the hash before it and the parts that each copy has
# for itself; so that the database can compute chains as `fulfillment.engine.work.chain` does.
_TRAIL = """
CREATE TEMPORARY TABLE trail (
    id bigint, fulfillment_id bigint, sequence int, entity text, entity_pk bigint,
    before text, after text, PRIMARY KEY (fulfillment_id, sequence))
"""
_HASHED = """encode(sha256(convert_to(
    '["' || {previous} || '"' || s.before || {entity_id} || s.after
    || to_char(({occurred_at}) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00"]',
    'UTF8')), 'hex')"""
_CHAINED = """
WITH RECURSIVE copies AS (SELECT n FROM generate_series(%(first)s::bigint, %(last)s) n),
linked (id, fulfillment_id, sequence, n, hash) AS (
    SELECT s.id, s.fulfillment_id, s.sequence, n, {first}
    FROM trail s JOIN fulfillment_transition t ON t.id = s.id, copies
    WHERE s.sequence = 1
    UNION ALL
    SELECT s.id, s.fulfillment_id, s.sequence, n, {next}
    FROM linked l JOIN trail s
        ON s.fulfillment_id = l.fulfillment_id AND s.sequence = l.sequence + 1
    JOIN fulfillment_transition t ON t.id = s.id
)
INSERT INTO fulfillment_transition ({names}) SELECT {values}
FROM linked l JOIN fulfillment_transition t ON t.id = l.id JOIN trail s ON s.id = l.id
"""
_HEAD = """(SELECT hash FROM fulfillment_transition h
    WHERE h.fulfillment_id = {fulfillment_id} AND h.sequence = t.audit_sequence)"""


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of one table that are copied, and where their copies begin."""

    model: type[models.Model]
    first: int
    width: int

    @property
    def name(self) -> str:
        return self.model._meta.db_table


def copy(*, of: Sequence[int], copies: int, tell: Tell, spread: timedelta = SPREAD) -> None:
    """These finished orders (by fulfillment id) so many times more; `tell` hears how many.

    Written as the owner of the tables, in transactions of some thousand orders. Raises BenchFailed
    when a trail has entities that a copy can't name.
    """
    if not of or copies < 1:
        return
    at_once = max(1, _ORDERS_AT_ONCE // len(of))
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"]) as owner, by_force.guards_off(owner):
        # Nobody loses anything with the last of them.
        owner.execute("SET synchronous_commit = off")
        tables = [found for model in _TABLES if (found := _found(owner, model, of))]
        _remember_trail(owner, of)
        step = spread / copies
        owner.commit()
        for first in range(1, copies + 1, at_once):
            last = min(copies, first + at_once - 1)
            _copy(owner, tables, of=of, first=first, last=last, of_all=copies, step=step)
            owner.commit()
            tell(last * len(of))


def newest(count: int, /) -> list[int]:
    """Fulfillments with the largest ids."""
    return list(Fulfillment.objects.order_by("-pk").values_list("pk", flat=True)[:count])


def check(*, of: Sequence[int]) -> None:
    """Raises BenchFailed unless the trail of each of these fulfillments verifies."""
    for fulfillment_id in of:
        if faults := audit.verify(fulfillment_id=fulfillment_id):
            raise BenchFailed(f"The trail of fulfillment {fulfillment_id}: {' '.join(faults)}")


def _found(
    owner: psycopg.Connection[Any], model: type[models.Model], of: Sequence[int]
) -> _Table | None:
    which = _which(model)
    rows = owner.execute(
        f"SELECT min(t.id), max(t.id) FROM {model._meta.db_table} t WHERE {which}", {"of": list(of)}
    )
    first, last = rows.fetchone() or (None, None)
    return None if first is None else _Table(model, first, last - first + 1)


def _which(model: type[models.Model]) -> str:
    if model is Fulfillment:
        return "t.id = ANY(%(of)s)"
    if any(field.name == "order" for field in model._meta.concrete_fields):
        return "t.order_id IN (SELECT id FROM oms_order WHERE fulfillment_id = ANY(%(of)s))"
    return "t.fulfillment_id = ANY(%(of)s)"


def _remember_trail(owner: psycopg.Connection[Any], of: Sequence[int]) -> None:
    owner.execute(_TRAIL)
    rows = Transition.objects.filter(fulfillment_id__in=of).order_by("fulfillment_id", "sequence")
    with owner.cursor().copy("COPY trail FROM STDIN") as lines:
        for row in rows.iterator():
            if row.entity not in _ENTITIES:
                raise BenchFailed(f"A copy of a {row.entity} can't be named in an audit trail.")
            lines.write_row(
                (
                    row.pk,
                    row.fulfillment_id,
                    row.sequence,
                    row.entity,
                    int(row.entity_id.removeprefix("O-")),
                    *_around(row),
                )
            )
    owner.execute("ANALYZE trail")


def _around(row: Transition) -> tuple[str, str]:
    """What the hash covers of the row, before and behind the id of its entity."""
    values = [row.sequence, row.entity, _UNSAID, row.name, row.from_state, row.to_state]
    values += [row.actor, row.cause, row.details, ""]
    text = json.dumps(values, sort_keys=True)
    before, _, after = text.partition(json.dumps(_UNSAID))
    return f', {before[1:]}"', f'"{after[:-2]}'


def _copy(
    owner: psycopg.Connection[Any],
    tables: Sequence[_Table],
    *,
    of: Sequence[int],
    first: int,
    last: int,
    of_all: int,
    step: timedelta,
) -> None:
    given = {"of": list(of), "first": first, "last": last}
    moved = {table.model: _moved(owner, table, first, last) for table in tables}
    ago = f"({of_all} - n + 1) * {step.total_seconds():f}"
    for table in tables:
        values = _values(table.model, moved, ago)
        names = ", ".join(f'"{name}"' for name in values)
        if table.model is Transition:
            occurred_at = values["occurred_at"]
            entity_id = values["entity_id"]
            hashed = {
                part: _HASHED.format(
                    previous=previous, entity_id=entity_id, occurred_at=occurred_at
                )
                for part, previous in (("first", "''"), ("next", "l.hash"))
            }
            statement = _CHAINED.format(
                names=names, values=", ".join((values | {"hash": "l.hash"}).values()), **hashed
            )
        else:
            statement = (
                f"INSERT INTO {table.name} ({names}) SELECT {', '.join(values.values())} "
                f"FROM {table.name} t, generate_series(%(first)s::bigint, %(last)s) n "
                f"WHERE {_which(table.model)} ORDER BY n, t.id"
            )
        owner.execute(statement, given)


def _moved(owner: psycopg.Connection[Any], table: _Table, first: int, last: int) -> str:
    """What is added to an id in copy `n`: ids that nobody else gets, copy behind copy."""
    sequence = f"{table.name}_id_seq"
    rows = owner.execute(
        "SELECT setval(%(of)s::regclass, nextval(%(of)s::regclass) + %(width)s) - %(width)s",
        {"of": sequence, "width": table.width * (last - first + 1)},
    )
    ((free,),) = rows.fetchall()
    return f" + {free - table.first} + (n - {first}) * {table.width}::bigint"


def _values(model: type[models.Model], moved: dict[Any, str], ago: str) -> dict[str, str]:
    """What stands in each column of a copy, as an expression over the row `t` and `n`."""
    columns = [field for field in model._meta.concrete_fields if field.column]
    values = {}
    for field in columns:
        value = f't."{field.column}"' + moved.get(field.related_model, "")
        if isinstance(field, models.DateTimeField):
            value += f" - {ago} * interval '1 second'"
        elif field.column == "rank":
            value += f" - (1000 * {ago})::bigint"
        values[field.column] = value
    return values | {"id": f"t.id{moved[model]}"} | _its_own(model, moved)


def _its_own(model: type[models.Model], moved: dict[Any, str]) -> dict[str, str]:
    """Names and keys that a copy must not share; ten orders of each customer."""
    order = f"(t.id{moved[Order]})"
    customer = "t.{} || '-' || n / 10"
    if model is Fulfillment:
        order = f"((SELECT o.id FROM oms_order o WHERE o.fulfillment_id = t.id){moved[Order]})"
        return {
            "order_reference": f"'O-' || {order}",
            "business_key": f"CASE t.business_key WHEN '' THEN '' "
            f"ELSE t.business_key || '-' || {order} END",
            "correlation_id": "replace(gen_random_uuid()::text, '-', '')",
            "customer": customer.format("customer"),
            "audit_head": _HEAD.format(fulfillment_id=f"t.id{moved[Fulfillment]}"),
        }
    if model is Transition:
        of = {name: f"(s.entity_pk{moved[of]})::text" for name, of in _ENTITIES.items()}
        return {
            "entity_id": f"CASE s.entity WHEN 'order' THEN 'O-' || {of['order']} "
            f"WHEN 'plan' THEN {of['plan']} ELSE {of['task']} END"
        }
    key = "encode(sha256(convert_to(t.idempotency_key || '-' || t.id{}, 'UTF8')), 'hex')"
    own: dict[type[models.Model], Callable[[], dict[str, str]]] = {
        Order: lambda: {
            "reference": f"'O-' || {order}",
            "external_id": f"t.external_id || '-' || {order}",
            "customer_id": customer.format("customer_id"),
        },
        Asset: lambda: {
            "asset_id": f"'O-' || (t.order_id{moved[Order]}) || "
            "coalesce(substring(t.asset_id FROM '^O-[0-9]+(-.*)$'), '-' || t.id)",
            "customer_id": customer.format("customer_id"),
        },
        Command: lambda: {"idempotency_key": key.format(moved[Command])},
        OutboxEvent: lambda: {
            "plan_id": f"t.plan_id{moved[Plan]}",
            "task_id": f"t.task_id{moved[Task]}",
            "published_at": "coalesce(t.published_at, t.occurred_at)",
        },
    }
    return own[model]() if model in own else {}
