"""Calls that were on the wire when something was held: waiting until they have ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fulfillment.engine.protection import holds
from fulfillment.engine.store.database import cursor

PATIENCE = timedelta(seconds=30)
"""How long placing waits at the most for calls that were on the wire before."""
BRIEFLY = timedelta(seconds=5)
"""The same where somebody sits before a screen, or a program before a request."""
_LOOK_SECONDS = 0.02

_IN_FLIGHT = """
SELECT a.purpose, t.id, t.plan_id, t.node, t.route, t.target_id, f.order_reference, f.customer,
       p.graph_id
FROM fulfillment_attempt a
JOIN fulfillment_task t ON t.id = a.task_id
JOIN fulfillment_plan p ON p.id = t.plan_id
JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
WHERE a.finished_at IS NULL AND a.lease_expires_at > fulfillment_now() AND a.started_at <= %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A hold or a pause that is in force."""

    hold_id: int | None
    """None for a pause."""
    in_flight: int
    """Calls that began before and had not ended when the patience was over."""


def await_calls(
    concerned: Callable[[str, holds.Held], bool], *, since: datetime, patience: timedelta
) -> int:
    """Until no call that began before is under way; how many are left when the patience ends.

    Looking again and again is meant: it is rare and short, and an event for it would cost every
    settlement.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        with cursor() as raw:
            raw.execute(_IN_FLIGHT, [since])
            left = sum(
                concerned(
                    purpose,
                    holds.Held(
                        task_id=task_id,
                        plan_id=plan_id,
                        node=node,
                        route=route,
                        target=target,
                        order_reference=reference,
                        customer=customer,
                        graph_id=graph_id,
                    ),
                )
                for (
                    purpose,
                    task_id,
                    plan_id,
                    node,
                    route,
                    target,
                    reference,
                    customer,
                    graph_id,
                ) in raw.fetchall()
            )
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(_LOOK_SECONDS)


def on_the_wire(calls: int) -> str:
    """What is still under way after `BRIEFLY`, in words."""
    if not calls:
        return "Nothing is on the wire any more."
    were = "1 call was" if calls == 1 else f"{calls} calls were"
    return (
        f"{were} still on the wire after {BRIEFLY.seconds} seconds; what comes of it is still "
        "taken in."
    )
