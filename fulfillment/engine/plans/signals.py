"""Milestones and signals from outside: kept first, then told to whoever waits for them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
from django.db import transaction

from adapters.contract import Outcome, OutcomeKind
from fulfillment.engine.plans import awaiting
from fulfillment.engine.plans.settlement import settle
from fulfillment.engine.store import failpoints
from fulfillment.engine.store.database import DATABASE_TROUBLE, Row, clean, cursor, storable
from fulfillment.engine.tasks.outcomes import Result
from fulfillment.engine.tasks.waits import awaits
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.subjects import of_key as of_key
from fulfillment.engine.work.subjects import of_order as of_order
from fulfillment.errors import FulfillmentError
from fulfillment.models import Fulfillment

logger = logging.getLogger(__name__)

_STORE = """
INSERT INTO fulfillment_signal (
    source, event_id, name, subject, payload, occurred_at, received_at, applied)
VALUES (%s, %s, %s, %s, %s, coalesce(%s, fulfillment_now()), fulfillment_now(), false)
ON CONFLICT (source, event_id) DO NOTHING RETURNING id
"""
_SEEN = "SELECT id, name, subject FROM fulfillment_signal WHERE source = %s AND event_id = %s"
_NEW = """
SELECT id, name, subject, payload, source, will_not_come FROM fulfillment_signal
WHERE NOT applied AND id > %s ORDER BY id LIMIT %s
"""
_KEPT = """
SELECT id, name, subject, payload, source, will_not_come FROM fulfillment_signal
WHERE id = %s AND NOT applied
"""
# Whoever is just beginning to wait for it holds this lock until its wait is committed.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 11))"
_WAITING = """
SELECT id, plan_id, fulfillment_id, node, element FROM fulfillment_task
WHERE awaits = %s AND awaits <> '' AND state IN ('ACCEPTED', 'AWAITING_MANUAL') ORDER BY id
"""
_APPLIED = "UPDATE fulfillment_signal SET applied = true WHERE id = %s"
_ACTOR = "signals"
ANSWERED = "customer_answered"
"""The milestone of an order with which manual tasks go on that await its customer."""
TOGETHER = 200
"""Tasks that are told in one unit of work."""


class SignalReused(FulfillmentError):
    """The event id was that of another signal; its sender has to give each its own."""

    code = "signal.event_id_reused"


class SignalUnusable(FulfillmentError):
    """What it brings along is no JSON that can be kept."""

    code = "signal.unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    signal_id: int
    duplicate: bool
    """The same event had been received before."""


def receive(
    *,
    source: str,
    event_id: str,
    name: str,
    subject: str,
    payload: Mapping[str, Any],
    occurred_at: datetime | None = None,
) -> Received:
    """Keep what has happened, and tell everybody who waits for it.

    Whoever begins to wait for it later finds it; whom it can't be told now is told by the
    scanner. Raises SignalReused and SignalUnusable; after a database error it is to be sent again.
    """
    with cursor() as raw:
        received = keep(
            raw,
            source=source,
            event_id=event_id,
            name=name,
            subject=subject,
            payload=payload,
            occurred_at=occurred_at,
        )
    if not received.duplicate:
        tell(signal_id=received.signal_id)
    return received


def keep(
    raw: psycopg.Cursor[Row],
    *,
    source: str,
    event_id: str,
    name: str,
    subject: str,
    payload: Mapping[str, Any],
    occurred_at: datetime | None = None,
) -> Received:
    """Keep what has happened, once; it is to be told when that is committed. Raises SignalReused
    and SignalUnusable."""
    if not storable(payload):
        raise SignalUnusable("Its payload has something in it that is no valid text or number.")
    raw.execute(
        _STORE, [source, event_id, name, subject, json.dumps(payload), occurred_at], prepare=True
    )
    row = raw.fetchone()
    if row is not None:
        return Received(signal_id=row[0], duplicate=False)
    raw.execute(_SEEN, [source, event_id], prepare=True)
    known = raw.fetchone()
    assert known is not None
    if (known[1], known[2]) != (name, subject):
        raise SignalReused(
            f"{event_id!r} of {source} was {known[1]} of {known[2]}; every event needs an id of "
            "its own."
        )
    return Received(signal_id=known[0], duplicate=True)


def tell(*, signal_id: int) -> None:
    """Tell of one that is kept, and committed. The scanner does it where this can't."""
    failpoints.reach("signal.stored_not_applied")
    with cursor() as raw:
        raw.execute(_KEPT, [signal_id], prepare=True)
        row = raw.fetchone()
    if row is not None:
        _apply_or_leave(row)


def waiting_for(raw: psycopg.Cursor[Row], *, name: str, subject: str) -> int:
    """How many tasks wait for it now."""
    raw.execute(_WAITING, [awaits(name=name, subject=subject)], prepare=True)
    return len(raw.fetchall())


def apply_new(*, limit: int = 200) -> int:
    """Tell of what was kept and not told yet: milestones of other orders, and after a crash.

    Returns how many it could tell of, at most `limit`. Those it fails with keep no other from it.
    """
    applied = last = 0
    while applied < limit:
        with cursor() as raw:
            raw.execute(_NEW, [last, limit - applied], prepare=True)
            found = raw.fetchall()
        if not found:
            break
        applied += sum(_apply_or_leave(row) for row in found)
        last = found[-1][0]
    return applied


def _apply_or_leave(signal: Row) -> bool:
    """What the engine fails with has its case; neither its sender nor the others are to suffer."""
    try:
        _apply(signal)
    except DATABASE_TROUBLE:
        raise
    except Exception:
        logger.exception("a signal could not be applied", extra={"signal": signal[0]})
        return False
    return True


def _apply(signal: Row) -> None:
    signal_id, name, subject, payload, source, will_not_come = signal
    awaited = awaits(name=name, subject=subject)
    with transaction.atomic(), cursor() as raw:
        raw.execute(_LOCK, [awaited], prepare=True)
        raw.execute(_WAITING, [awaited], prepare=True)
        waiting = raw.fetchall()
    told = json.loads(payload)
    outcome = (
        Outcome(kind=OutcomeKind.REJECTED, code="will_not_come", message=told["reason"])
        if will_not_come
        else Outcome(kind=OutcomeKind.SUCCEEDED, outputs=told)
    )
    results = [
        Result(
            task_id=task_id,
            plan_id=plan_id,
            fulfillment_id=fulfillment_id,
            node=node,
            element=element,
            outcome=outcome,
        )
        for task_id, plan_id, fulfillment_id, node, element in waiting
    ]
    _tell(results, actor=clean(f"{_ACTOR}: {source}", 150))
    if name == ANSWERED:
        _pass_on(subject, told, actor=clean(f"{_ACTOR}: {source}", 150))
    failpoints.reach("signal.applied_not_marked")
    with cursor() as raw:
        raw.execute(_APPLIED, [signal_id], prepare=True)


def _pass_on(subject: str, told: Mapping[str, Any], *, actor: str) -> None:
    """The customer has answered what a person has asked about this order."""
    kind, _, key = subject.partition(":")
    known = Fulfillment.objects.filter(business_key=key).values_list("pk", flat=True)
    for fulfillment_id in known if kind == "order" else ():
        run_unit(
            partial(
                awaiting.resume_all,
                fulfillment_id=fulfillment_id,
                awaits=awaiting.CUSTOMER,
                cause="the customer has answered",
                answer=dict(told),
            ),
            fulfillment_ids=[fulfillment_id],
            actor=actor,
        )


def _tell(results: Sequence[Result], *, actor: str) -> None:
    """A batch at a time, as a whole crowd may wait for one order; told again, nothing happens."""
    problem: Exception | None = None
    for first in range(0, len(results), TOGETHER):
        try:
            settle(results=results[first : first + TOGETHER], actor=actor)
        except DATABASE_TROUBLE:
            raise
        except Exception as error:
            problem = error  # It has its case; those behind it are not to wait for it.
    if problem is not None:
        raise problem
