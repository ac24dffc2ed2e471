"""A unit of work from its lock to its commit, and again where the database says so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import psycopg
from django.db import connection, transaction

from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import (
    DATABASE_TROUBLE,
    Row,
    array,
    cursor,
    ids,
    pin_plans_until_commit,
)
from fulfillment.engine.work import asking, hints, locking
from fulfillment.engine.work.unit import LockedFulfillment, Unit
from fulfillment.errors import ConcurrentChange

logger = logging.getLogger(__name__)
T = TypeVar("T")

# The time is asked row by row, each when it has been locked: the latest comes after every lock.
# And it says that this is a unit: elsewhere the database lets no state change (see store.guards).
_MARKED = "set_config('fulfillment.unit', 'on', true)"
_LOCK = f"""
SELECT locked.*, {_MARKED}, fulfillment_now() FROM (
    SELECT id, order_reference, correlation_id, priority, rank, customer, business_key,
           audit_sequence, audit_head
    FROM fulfillment_fulfillment WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE
) locked
"""
_RETRY_PAUSES_SECONDS = (0.01, 0.05, 0.25, 1.0, 2.0)


def run_unit(
    work: Callable[[Unit], T], *, fulfillment_ids: Iterable[int], actor: str, drained: str = ""
) -> T:
    """Lock, let `work` read and change, flush, commit; then publish the hints.

    Runs again after a serialization failure, a deadlock, a lost connection or a row that
    changed underneath. `drained` names the target whose drain is running here anyway and so
    needs no hint. Errors of `work` roll everything back and are raised.
    """
    wanted = ids(fulfillment_ids)
    for pause in (*_RETRY_PAUSES_SECONDS, None):
        try:
            return _run_once(work, wanted, actor, drained)
        except (*DATABASE_TROUBLE, ConcurrentChange) as error:
            if pause is None or connection.in_atomic_block:
                raise
            logger.warning("unit of work runs again", extra={"reason": type(error).__name__})
            connection.close_if_unusable_or_obsolete()
            time.sleep(pause)
    raise AssertionError("unreachable")


def _run_once(work: Callable[[Unit], T], wanted: Sequence[int], actor: str, drained: str) -> T:
    with transaction.atomic(), cursor() as raw:
        pin_plans_until_commit(raw)
        unit = _open(raw, wanted, actor)
        result = work(unit)
        conclude(unit)
        unit.let_go()
        failpoints.reach("unit.before_flush")
        unit.flush()
        failpoints.reach("unit.before_commit")
        # First of what happens after the commit.
        transaction.on_commit(lambda: failpoints.reach("unit.after_commit"))
        unit.hinted.pop(drained, None)
        if unit.heard:
            transaction.on_commit(hints.announce_events, robust=True)
        if unit.rests:
            transaction.on_commit(hints.announce_rest, robust=True)
        if unit.fell_out:
            transaction.on_commit(hints.announce_fallout, robust=True)
        if unit.passed_on:
            transaction.on_commit(_call_up, robust=True)
        # What fails after the commit must not make the unit fail, or run again.
        transaction.on_commit(
            lambda: hints.publish(targets=unit.hinted, wake_ups=unit.wake_ups), robust=True
        )
    return result


def conclude(unit: Unit) -> None:
    """What follows from everything else in it: for the orders, and for whoever is asked."""
    unit.notify_orders()
    asking.keep_in_step(unit)


def _call_up() -> None:
    failpoints.reach("locking.released_not_called_up")
    hints.publish(targets=dict.fromkeys(locking.wake(), 1), wake_ups={})


def _open(raw: psycopg.Cursor[Row], wanted: Sequence[int], actor: str) -> Unit:
    rows: list[Row] = []
    if wanted:
        raw.execute(_LOCK, [array(wanted)], prepare=True)
        rows = raw.fetchall()
    now = max((row[-1] for row in rows), default=None)
    if now is None:
        raw.execute(f"SELECT {_MARKED}, fulfillment_now()", prepare=True)
        ((_, now),) = raw.fetchall()
    locked = {row[0]: LockedFulfillment(*row[:-2]) for row in rows}
    return Unit(raw=raw, actor=actor, now=now, fulfillments=locked)
