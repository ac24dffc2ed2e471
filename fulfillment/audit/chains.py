"""The chains of all orders: every row as it was written, and every state as its chain says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

import psycopg
from django.db import connection
from psycopg.rows import class_row

from fulfillment.audit.entities import entities
from fulfillment.audit.findings import Finding, Progress
from fulfillment.engine.store.database import Row, array, cursor
from fulfillment.engine.work.audit import breaks

_AT_ONCE = 500
"""Orders whose states are read at once."""
_FETCHED = 5_000
"""Rows of a chain that are held in memory at once."""
_WHICH = "WHERE {column} = ANY(%s::bigint[])"
_HEADS = """
SELECT id, order_reference, audit_sequence, audit_head FROM fulfillment_fulfillment {which}
ORDER BY id
"""
_ROWS = """
SELECT fulfillment_id, sequence, entity, entity_id, name, from_state, to_state, actor, cause,
       details, occurred_at, hash
FROM fulfillment_transition {which} ORDER BY fulfillment_id, sequence
"""


@dataclass(slots=True)
class _Row:
    fulfillment_id: int
    sequence: int
    entity: str
    entity_id: str
    name: str
    from_state: str
    to_state: str
    actor: str
    cause: str
    details: Any
    occurred_at: Any
    hash: str

    def __post_init__(self) -> None:
        self.details = json.loads(self.details)  # As Django's connections hand it over.


@dataclass(slots=True)
class _Head:
    id: int
    order_reference: str
    audit_sequence: int
    audit_head: str


@dataclass(slots=True)
class _Standing:
    """What one order's chain says of its entities: the state of each, and in which row."""

    head: _Head
    last: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)


def verify_chains(
    *, fulfillment_ids: Sequence[int] | None, progress: Progress
) -> Iterator[Finding]:
    """All of them, or those named; at most one finding for each order's chain, and one for each
    state that is not what its chain says. Reads each row once; call it in one snapshot."""
    which = "" if fulfillment_ids is None else _WHICH
    values = None if fulfillment_ids is None else [array(fulfillment_ids)]
    with (
        _streamed("audit_heads", _Head) as heads,
        _streamed("audit_rows", _Row) as rows,
    ):
        heads.execute(_HEADS.format(which=which.format(column="id")).encode(), values)
        rows.execute(_ROWS.format(which=which.format(column="fulfillment_id")).encode(), values)
        chains = groupby(rows, key=attrgetter("fulfillment_id"))
        ahead = next(chains, None)
        batch: list[_Standing] = []
        for checked, head in enumerate(heads, start=1):
            while ahead is not None and ahead[0] < head.id:
                yield _stranger(*ahead)
                ahead = next(chains, None)
            mine: Iterator[_Row] = iter(())
            if ahead is not None and ahead[0] == head.id:
                mine = ahead[1]
            standing, finding = _chain(head, mine)
            if finding is not None:
                yield finding
            if ahead is not None and ahead[0] == head.id:
                ahead = next(chains, None)
            batch.append(standing)
            if len(batch) == _AT_ONCE:
                yield from _states(batch)
                batch = []
                progress(f"{checked} orders")
        while ahead is not None:
            yield _stranger(*ahead)
            ahead = next(chains, None)
        yield from _states(batch)


def _streamed(name: str, kind: type[Any]) -> psycopg.ServerCursor[Any]:
    connection.ensure_connection()
    found = psycopg.ServerCursor(connection.connection, name, row_factory=class_row(kind))
    found.itersize = _FETCHED
    return found


def _stranger(fulfillment_id: int, rows: Iterator[_Row]) -> Finding:
    first, *others = rows
    return Finding(
        table="fulfillment_transition",
        place=f"fulfillment {fulfillment_id}, row {first.sequence}",
        what=f"It belongs to no order, as {len(others)} others beside it: they were added, or the "
        "order was cut out.",
    )


def _chain(head: _Head, rows: Iterator[_Row]) -> tuple[_Standing, Finding | None]:
    standing = _Standing(head=head)

    def noted() -> Iterator[_Row]:
        for row in rows:
            standing.last[row.entity, row.entity_id] = (row.to_state, row.sequence)
            yield row

    found = breaks(rows=noted(), length=head.audit_sequence, head=head.audit_head)
    if not found:
        return standing, None
    return standing, Finding(
        table="fulfillment_transition", place=head.order_reference, what=found[0]
    )


def _states(batch: Sequence[_Standing]) -> Iterator[Finding]:
    """What is in another state than the chain of its order has brought it to."""
    if not batch:
        return
    ids = array([one.head.id for one in batch])
    by_id = {one.head.id: one for one in batch}
    named: dict[tuple[int, str, str], tuple[str, int]] = {
        (one.head.id, entity, entity_id): said
        for one in batch
        for (entity, entity_id), said in one.last.items()
    }
    with cursor() as raw:
        for entity in entities().values():
            raw.execute(entity.current.encode(), [ids])
            for row_id, fulfillment_id, state in raw.fetchall():
                said = named.pop((fulfillment_id, entity.name, row_id), None)
                if said is None and state == entity.first:
                    continue
                if said is None or said[0] != state:
                    reference = by_id[fulfillment_id].head.order_reference
                    yield _moved(entity.table, row_id, reference, state, said)
    known = entities()
    for (fulfillment_id, name, row_id), (state, sequence) in named.items():
        if name in known:
            yield Finding(
                table=known[name].table,
                place=f"{by_id[fulfillment_id].head.order_reference}, {name} {row_id}",
                what=f"It is not there as a {name} of this order, and row {sequence} of the "
                f"audit trail says that it is {state}: it was cut, or belongs to another order.",
            )


def _moved(table: str, row_id: str, reference: str, state: str, said: Row | None) -> Finding:
    if said is None:
        what = f"It is {state}, and the audit trail of its order does not know it."
    else:
        what = (
            f"It is {state}, and row {said[1]} of the audit trail says {said[0]}: the state was "
            "written past it."
        )
    return Finding(table=table, place=f"{reference}, {row_id}", what=what)
