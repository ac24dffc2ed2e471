"""Holds in the claim: what must not be sent, decided under one lock (docs/states.md).

Every claim holds the gate shared from before it looks at holds until it commits; whoever places
or releases a hold, or pauses a target, takes it exclusively. So a claim either sees the hold or
has committed before it was placed. The gate comes after the fulfillments in the order of locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import psycopg
from django.db import transaction

from fulfillment.engine.protection import doubt
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import Row, array, cursor
from fulfillment.errors import GateBusy
from fulfillment.models import HoldScope, Task

_GATE = "hashtext('fulfillment.holds')"
PASS_GATE = f"pg_advisory_xact_lock_shared({_GATE})"
"""SQL that keeps holds from changing until the transaction ends."""
_EXCLUSIVE = f"SELECT pg_advisory_xact_lock({_GATE})"
_PATIENCE = "3s"
_ACTIVE = """
SELECT subject, id FROM fulfillment_hold
WHERE released_at IS NULL AND (until IS NULL OR until > fulfillment_now())
  AND subject = ANY(%s::text[]) ORDER BY id
"""
_PARK = """
UPDATE fulfillment_task t SET held_by_id = v.hold_id, waits_for = 'HOLD'
FROM unnest(%s::bigint[], %s::bigint[]) AS v(id, hold_id) WHERE t.id = v.id
"""
# Without the fulfillments' locks, so it must never wait for a row: that could be a deadlock.
_HEADS = """
SELECT t.id, t.plan_id, t.node, t.route, t.target_id, f.order_reference, f.customer, p.graph_id,
       t.sends
FROM fulfillment_task t
JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
JOIN fulfillment_plan p ON p.id = t.plan_id
WHERE t.id = ANY(%s::bigint[]) AND t.held_by_id IS NULL
ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
"""
# From hold to hold through the index: those that still hold may hold very many.
_UNPARK = """
WITH RECURSIVE holding(id) AS (
    SELECT min(held_by_id) FROM fulfillment_task WHERE held_by_id IS NOT NULL
    UNION ALL
    SELECT (SELECT min(held_by_id) FROM fulfillment_task WHERE held_by_id > holding.id)
    FROM holding WHERE holding.id IS NOT NULL
)
UPDATE fulfillment_task SET held_by_id = NULL, waits_for = 'TARGET' WHERE id IN (
    SELECT t.id FROM holding
    JOIN fulfillment_hold h ON h.id = holding.id AND h.released_at IS NOT NULL
    JOIN fulfillment_task t ON t.held_by_id = h.id
    LIMIT %s FOR NO KEY UPDATE OF t SKIP LOCKED
) RETURNING target_id
"""
_ENDED = """
SELECT id FROM fulfillment_hold
WHERE released_at IS NULL AND until IS NOT NULL AND until <= fulfillment_now() ORDER BY id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a task is, as far as holds can name it."""

    task_id: int
    plan_id: int
    node: int
    route: int
    """Which of its ways it takes: a hold on an action is on what would really be asked for."""
    target: str
    order_reference: str
    customer: str
    graph_id: int
    sends: int = 0

    @classmethod
    def of(cls, task: Task, *, order_reference: str, customer: str, graph_id: int) -> Self:
        """A task as it stands."""
        return cls(
            task_id=task.id,
            plan_id=task.plan_id,
            node=task.node,
            route=task.route,
            target=task.target_id,
            order_reference=order_reference,
            customer=customer,
            graph_id=graph_id,
            sends=task.sends,
        )


def subject_of(*, scope: HoldScope, name: str) -> str:
    """The text by which a hold of this scope is found, such as `order:O-17`.

    `name` is the order's reference, the plan's or task's number, `O-17/2` for the second item
    of an order, the target's name, `billing/create_subscription` for an action, or the
    customer's id.
    """
    return f"{scope.lower()}:{name}"


def subjects_of(held: Held) -> list[str]:
    """Every subject that would hold this task back from being sent."""
    node = graphs.routed(held.graph_id, held.node, held.route)
    # Spelled out: eight calls of `subject_of` would be a twentieth of what a task costs.
    return [
        # First: where somebody holds it besides, that is what keeps it (see `holding`).
        f"change:{held.plan_id}",
        f"order:{held.order_reference}",
        f"plan:{held.plan_id}",
        f"task:{held.task_id}",
        f"target:{held.target}",
        f"action:{held.target}/{node.action}",
        f"customer:{held.customer}",
        *(f"item:{held.order_reference}/{position}" for position in node.items),
    ]


def close_gate(raw: psycopg.Cursor[Row]) -> None:
    """Wait for the claims that are committing; none begins before this transaction ends.

    Raises GateBusy rather than let every claim wait behind it for long.
    """
    raw.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
    try:
        raw.execute(_EXCLUSIVE)
    except psycopg.errors.LockNotAvailable as error:
        raise GateBusy(
            "A worker has stopped in the middle of a claim, so nothing was changed. It loses its "
            "claim within half a minute; try again then."
        ) from error
    raw.execute("SET LOCAL lock_timeout = 0")


def active(raw: psycopg.Cursor[Row], *, subjects: Iterable[str]) -> dict[str, int]:
    """Subject -> id of the active hold, of those that are held."""
    raw.execute(_ACTIVE, [array(sorted(set(subjects)))], prepare=True)
    return dict(raw.fetchall())


def holding(raw: psycopg.Cursor[Row], *, tasks: Sequence[Held]) -> dict[int, int]:
    """Task id -> id of the hold that keeps it from being sent, for those that are held."""
    if not tasks:
        return {}
    subjects = {held.task_id: subjects_of(held) for held in tasks}
    found = active(raw, subjects=(subject for many in subjects.values() for subject in many))
    held = {
        task_id: subject
        for task_id, many in subjects.items()
        for subject in many
        if subject in found and not subject.startswith("target:")
    }
    changing = {task_id for task_id, subject in held.items() if subject.startswith("change:")}
    resent = [one.task_id for one in tasks if one.sends and one.task_id in changing]
    # What may have happened already is found out: at a target that can't be asked, by sending the
    # same key again. Nothing new begins with that.
    finding_out = doubt.in_doubt(raw, task_ids=resent) if resent else frozenset()
    return {
        task_id: found[subject] for task_id, subject in held.items() if task_id not in finding_out
    }


def park(raw: psycopg.Cursor[Row], *, holds: Mapping[int, int]) -> None:
    """Take held tasks (id -> hold) out of the claim's way, so that they hide nobody behind them.

    Not a transition: the hold is a fact beside the state, and its release undoes this.
    """
    if holds:
        raw.execute(_PARK, [list(holds), list(holds.values())], prepare=True)


def park_held(*, task_ids: Sequence[int]) -> int:
    """Park those of the claim's candidates that are held. Returns how many were."""
    with transaction.atomic(), cursor() as raw:
        raw.execute(f"SELECT {PASS_GATE}", prepare=True)
        raw.execute(_HEADS, [list(task_ids)], prepare=True)
        tasks = [
            Held(
                task_id=task_id,
                plan_id=plan_id,
                node=node,
                route=route,
                target=target,
                order_reference=reference,
                customer=customer,
                graph_id=graph_id,
                sends=sends,
            )
            for task_id, plan_id, node, route, target, reference, customer, graph_id, sends in (
                raw.fetchall()
            )
        ]
        found = holding(raw, tasks=tasks)
        park(raw, holds=found)
        return len(found)


def unpark(*, batch: int = 1000) -> set[str]:
    """Let go of tasks whose hold has been released. Returns the targets that have work again."""
    targets: set[str] = set()
    while True:
        with cursor() as raw:
            raw.execute(_UNPARK, [batch], prepare=True)
            freed = [row[0] for row in raw.fetchall()]
        targets.update(freed)
        if len(freed) < batch:
            return targets


def ended(raw: psycopg.Cursor[Row]) -> list[int]:
    """Holds whose time is over and which nobody has released yet."""
    raw.execute(_ENDED, prepare=True)
    return [row[0] for row in raw.fetchall()]
