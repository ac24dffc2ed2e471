"""A crowd of open orders that wait for all kinds of reasons, and how many rows one look reads.

`one_of_each` lets an order come to each wait through the engine itself; `multiply` then copies
these rows in the database, so that a hundred thousand take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

from django.db import connection, models, transaction

from fulfillment import operations, stuck
from fulfillment.engine.store.database import cursor
from fulfillment.models import (
    Attempt,
    Command,
    FalloutCase,
    Fulfillment,
    HoldScope,
    ManualTask,
    OutboxEvent,
    Plan,
    ResourceLock,
    Task,
    Transition,
)
from oms.models import Order, OrderItem
from tests import by_force, desk
from tests.desk import by
from tests.manual_work import an_approval

_LONG = "P90D"
_CUSTOMER = {"resource": "customer", "key": "${order.customer.id}"}
_DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DECISION = an_approval(within=_LONG)
# What a copy must not share with its original; `n` is the number of the copy.
_ITS_OWN: dict[type[models.Model], dict[str, str]] = {
    Fulfillment: {
        "order_reference": "order_reference || '-' || n",
        "correlation_id": "md5(correlation_id || n)",
        "business_key": "CASE WHEN business_key = '' THEN '' ELSE business_key || '-' || n END",
    },
    Task: {"awaits": "CASE WHEN waits_for = 'MILESTONE' THEN awaits || '-' || n ELSE awaits END"},
    Command: {"idempotency_key": "md5(idempotency_key || n)"},
    ResourceLock: {"name": "name || '-' || n"},
    FalloutCase: {"subject": "subject || '-' || n"},
    Order: {"reference": "reference || '-' || n", "external_id": "external_id || '-' || n"},
}
_TABLES: tuple[type[models.Model], ...] = (
    Fulfillment,
    Plan,
    Task,
    Command,
    ManualTask,
    ResourceLock,
    FalloutCase,
    Order,
    OrderItem,
)
_HISTORY: tuple[type[models.Model], ...] = (Attempt, Transition, OutboxEvent)


def one_of_each() -> dict[str, Order]:
    """By what it waits for. alpha works, beta reports late or never, gamma is paused."""
    desk.target("alpha")
    desk.target("beta", asynchronous=True, reconcile_after=timedelta(days=90))
    desk.target("gamma")
    hour = desk.now().hour
    window = {
        "days": _DAYS,
        "from": f"{(hour + 12) % 24:02d}:00",
        "to": f"{(hour + 13) % 24:02d}:00",
        "timezone": "UTC",
    }
    seldom = {"initial_interval": "PT100H", "maximum_interval": "PT100H", "maximum_attempts": 9}
    ready = {"ready": {"title": "Ready", "reached_by": "go", "shared": True}}
    of_source = {"milestone": "ready", "order": "SOURCE", "within": _LONG, "otherwise": "escalate"}
    paid = desk.step(wait={"milestone": "paid", "within": _LONG, "otherwise": "escalate"})
    offerings: dict[str, dict[str, Any]] = {
        "time": {"go": desk.step(wait={"delay": _LONG})},
        "milestone": {"go": paid},
        "person": {"go": desk.step(manual=_DECISION)},
        "window": {"go": desk.task(window=window)},
        "retry": {"fails": desk.task(retry=seldom)},
        "report": {"accepted": desk.task("beta", timeouts={"callback": _LONG})},
        "doubt": {"doubtful": desk.task("beta")},
        "failed": {"refused": desk.task()},
        "hold": {"go": desk.task()},
        "target": {"go": desk.task("gamma")},
    }
    for name, tasks in offerings.items():
        desk.workflow(tasks, offering=name)
    for name, tasks in (
        ("source", {"wait": desk.step(wait=of_source), "go": desk.task(after=["wait"])}),
        ("order", {"wait": desk.step(wait={**of_source, "order": "REFRESH"})}),
    ):
        milestones = ready if name == "source" else {}
        desk.workflow(tasks, offering=name, milestones=milestones)
    begun = {"begin": desk.task(), "then": {**paid, "depends_on": [{"success": "begin"}]}}
    desk.workflow(begun, offering="lock", locks=[_CUSTOMER])
    systems = desk.systems
    systems.sends["fails"] = [desk.failed()]
    systems.sends["accepted"] = [desk.accepted()]
    systems.sends["doubtful"] = [desk.unknown()]
    systems.sends["refused"] = [desk.rejected()]
    operations.pause_target(target="gamma", reason="They move house.", actor=by("ann"))
    operations.place_hold(
        scope=HoldScope.CUSTOMER, name="HELD", reason="They did not pay.", actor=by("ann")
    )
    desk.order(desk.item("source"), external_id="REFRESH")
    desk.order(desk.item("lock"), customer_id="LOCKED")
    desk.finish()
    found = {
        name: desk.order(desk.item(name), customer_id="HELD" if name == "hold" else "C-1")
        for name in (*offerings, "order")
    }
    found["lock"] = desk.order(desk.item("lock"), customer_id="LOCKED")
    desk.finish()
    # Whoever is stuck by now has a case.
    desk.advance(3600)
    stuck.detect_stuck()
    return found


def multiply(
    copies: int, *, of: Collection[int] = (), pace_ms: int = 0, history: bool = False
) -> None:
    """These orders (or all) so many times more, with all that belongs to them.

    With `pace_ms` each copy stands that much behind the one before in its customer's fair share.
    With `history` attempts, audit rows and events are copied too; their hashes stay as they were.
    """
    tables = _TABLES + _HISTORY * history
    with by_force.unguarded(), cursor() as raw:
        which = {model: _of(model, of) for model in tables}
        moved = {}
        for model in tables:
            table = model._meta.db_table
            raw.execute(
                f"SELECT min(id), max(id), (SELECT max(id) FROM {table}) FROM {table} "
                f"WHERE {which[model]}"
            )
            ((first, last, top),) = raw.fetchall()
            if first is not None:
                # Behind all that there are, copy after copy.
                moved[model] = f" + {top - first + 1} + (n - 1) * {last - first + 1}::bigint"
        for model, move in moved.items():
            table = model._meta.db_table
            columns = [field for field in model._meta.concrete_fields if field.column]
            values = {field.column: f'"{field.column}"' for field in columns}
            for field in columns:
                values[field.column] += moved.get(field.related_model, "")
            values |= _ITS_OWN.get(model, {}) | {"id": f"id{move}"}
            if "rank" in values:
                values["rank"] = f"rank + n * {pace_ms}"
            names = ", ".join(f'"{name}"' for name in values)
            raw.execute(
                f"INSERT INTO {table} ({names}) SELECT {', '.join(values.values())} "
                f"FROM {table}, generate_series(1, {copies}) n WHERE {which[model]}"
            )
            raw.execute(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")


def _of(model: type[models.Model], fulfillment_ids: Collection[int]) -> str:
    if not fulfillment_ids:
        return "true"
    these = f"({', '.join(map(str, fulfillment_ids))})"
    if model is Fulfillment:
        return f"id IN {these}"
    if model is OrderItem:
        return f"order_id IN (SELECT id FROM oms_order WHERE fulfillment_id IN {these})"
    return f"fulfillment_id IN {these}"


_READ = """
SELECT c.relname, pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid)
FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
WHERE s.nspname = 'public' AND c.relkind IN ('r', 'i')
"""


def rows_read(work: Callable[[], Any]) -> dict[str, int]:
    """By table or index, how many rows or entries `work` has made the database read.

    By the database's own count, so for all its statements, whoever has sent them. What it has
    written is rolled back.
    """
    before = after = {}
    with transaction.atomic():
        before = _counted()
        work()
        after = _counted()
        transaction.set_rollback(True)
    return {name: after[name] - before[name] for name in after if after[name] > before[name]}


def reads_few(page: Callable[[], Any], *, what: str, at_most: int) -> None:
    """That looking at it once more reads no more than that of any table or index."""
    page()
    # Of permissions there are as many as there are models and actions, however many orders.
    many = {
        name: rows
        for name, rows in rows_read(page).items()
        if rows > at_most and not name.startswith("auth_permission")
    }
    assert not many, (what, many)


def _counted() -> dict[str, int]:
    with connection.cursor() as raw:
        raw.execute(_READ)
        return dict(raw.fetchall())
