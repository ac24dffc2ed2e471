"""Revenue leakage: active without billing, and billing without service (reference §31.4, §35).

The order desk notes of each item that is billed when its service is there and when its billing
is. If one is there and the other is not after the product's own time, a case is opened: once, and
closed when the other follows.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import psycopg

from fulfillment.actions import Action
from fulfillment.engine.store.database import Row, arrays, cursor
from fulfillment.engine.store.halving import in_halves
from fulfillment.engine.work import cases
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import CaseCategory, Plan, Severity, Task
from fulfillment.queries import fulfillments
from fulfillment.states import PlanState, TaskState
from oms import leaks, terms
from oms.models import BillingMatch, Leak
from oms.states import ItemAction
from oms.terms import Terms

logger = logging.getLogger(__name__)

Places = Collection[tuple[int, int]]
"""(order id, position of the item) pairs."""

_ACTOR = "leakage detector"
_BATCH = 100
_LOOK_AGAIN = timedelta(days=1)
"""At a leak that has its case: the order may have moved to a workflow that bills nothing."""
# Whichever comes first opens the gap, the other closes it; hearing of one again changes nothing.
_NOTE = """
INSERT INTO oms_billingmatch AS m (item_id, service_at, billed_at, due_at, filed)
SELECT i.id, v.service_at, v.billed_at,
    CASE WHEN v.service_at IS NULL OR v.billed_at IS NULL THEN v.due_at END, false
FROM unnest(%s::bigint[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
    AS v(order_id, position, service_at, billed_at, due_at)
JOIN oms_orderitem i ON i.order_id = v.order_id AND i.position = v.position
ON CONFLICT (item_id) DO UPDATE SET
    service_at = coalesce(m.service_at, EXCLUDED.service_at),
    billed_at = coalesce(m.billed_at, EXCLUDED.billed_at),
    due_at = CASE WHEN m.filed THEN %s::timestamptz END
WHERE (m.service_at IS NULL AND EXCLUDED.service_at IS NOT NULL)
   OR (m.billed_at IS NULL AND EXCLUDED.billed_at IS NOT NULL)
"""
# Where neither is left and a case is open, the row stays until that is closed.
_TAKE_BACK = """
WITH gone AS (
    SELECT i.id, v.service, v.billing, v.due_at
    FROM unnest(%s::bigint[], %s::int[], %s::boolean[], %s::boolean[], %s::timestamptz[])
        AS v(order_id, position, service, billing, due_at)
    JOIN oms_orderitem i ON i.order_id = v.order_id AND i.position = v.position
), left_over AS (
    SELECT *, service_at IS NULL AND billed_at IS NULL AS nothing FROM (
        SELECT m.item_id, g.due_at, m.filed AND m.due_at IS NOT NULL AS has_case,
            CASE WHEN NOT g.service THEN m.service_at END AS service_at,
            CASE WHEN NOT g.billing THEN m.billed_at END AS billed_at
        FROM oms_billingmatch m JOIN gone g ON g.id = m.item_id
    ) n
), forgotten AS (
    DELETE FROM oms_billingmatch m USING left_over n
    WHERE m.item_id = n.item_id AND n.nothing AND NOT n.has_case
)
UPDATE oms_billingmatch m SET service_at = n.service_at, billed_at = n.billed_at,
    filed = n.nothing, due_at = CASE WHEN n.nothing THEN %s::timestamptz ELSE n.due_at END
FROM left_over n
WHERE m.item_id = n.item_id AND (n.has_case OR NOT n.nothing)
  AND (m.service_at IS DISTINCT FROM n.service_at OR m.billed_at IS DISTINCT FROM n.billed_at)
"""
_DUE = f"""
SELECT m.due_at, m.item_id, o.fulfillment_id
FROM oms_billingmatch m
JOIN oms_orderitem i ON i.id = m.item_id
JOIN oms_order o ON o.id = i.order_id
WHERE m.due_at <= (SELECT fulfillment_now()) AND (m.due_at, m.item_id) > (%s::timestamptz, %s)
ORDER BY m.due_at, m.item_id LIMIT {_BATCH}
"""
_TITLES: Mapping[Leak, str] = {
    Leak.ACTIVE_WITHOUT_BILLING: "active and not billed",
    Leak.BILLED_WITHOUT_SERVICE: "billed and not active",
}

# By what leaks, and whether the item is to end.
_SINCE: Mapping[tuple[Leak, bool], str] = {
    (Leak.ACTIVE_WITHOUT_BILLING, False): "has been active since",
    (Leak.BILLED_WITHOUT_SERVICE, False): "has been billed since",
    (Leak.ACTIVE_WITHOUT_BILLING, True): "has not been billed since",
    (Leak.BILLED_WITHOUT_SERVICE, True): "has been switched off since",
}
_STILL: Mapping[tuple[Leak, bool], str] = {
    (Leak.ACTIVE_WITHOUT_BILLING, False): "and is not billed",
    (Leak.BILLED_WITHOUT_SERVICE, False): "and is not active",
    (Leak.ACTIVE_WITHOUT_BILLING, True): "and is still active",
    (Leak.BILLED_WITHOUT_SERVICE, True): "and is still billed",
}
_ADVICE: Mapping[Leak, str] = {
    Leak.ACTIVE_WITHOUT_BILLING: "Have it billed or switched off, or close this case with the "
    "reason why it costs nothing.",
    Leak.BILLED_WITHOUT_SERVICE: "Have it activated or the billing taken back, and close this "
    "case with what was done.",
}
_GIVEN_UP = frozenset({PlanState.COMPENSATING, PlanState.CANCELLED, PlanState.FAILED})


def note(
    raw: psycopg.Cursor[Row],
    *,
    active: Places,
    billed: Places,
    within: Mapping[tuple[int, int], timedelta],
    now: datetime,
) -> None:
    """The service, or the billing, of these items is now as it was ordered.

    `within` says of each item how long the other may take.
    """
    rows = [
        (
            *place,
            now if place in active else None,
            now if place in billed else None,
            now + within[place],
        )
        for place in sorted({*active, *billed})
    ]
    if rows:
        raw.execute(_NOTE, [*arrays(rows), now], prepare=True)


def take_back(
    raw: psycopg.Cursor[Row],
    *,
    inactive: Places,
    unbilled: Places,
    within: Mapping[tuple[int, int], timedelta],
    now: datetime,
) -> None:
    """The service, or the billing, of these items has been undone.

    `within` says of each item how long the other may take.
    """
    rows = [
        (*place, place in inactive, place in unbilled, now + within[place])
        for place in sorted({*inactive, *unbilled}.intersection(within))
    ]
    if rows:
        raw.execute(_TAKE_BACK, [*arrays(rows), now], prepare=True)


def find_leaks() -> int:
    """Open a case for every item whose time is over. Returns how many were opened."""
    return sum(
        sum(in_halves(rows, work=_look_together, culprit=_leave)) for rows in _pages() if rows
    )


def _pages() -> Iterator[list[Row]]:
    last: tuple[datetime | str, int] = ("-infinity", 0)
    while True:
        with cursor() as raw:
            raw.execute(_DUE, [*last], prepare=True)
            rows = raw.fetchall()
        yield rows
        if len(rows) < _BATCH:
            return
        last = rows[-1][0], rows[-1][1]


def _look_together(rows: Sequence[Row]) -> list[int]:
    return [
        run_unit(
            partial(_look, item_ids=[row[1] for row in rows]),
            fulfillment_ids=[row[2] for row in rows],
            actor=_ACTOR,
        )
    ]


def _leave(row: Row, error: Exception) -> None:
    logger.error("a leak was not looked into", exc_info=error, extra={"item": row[1]})


def _look(unit: Unit, item_ids: Sequence[int]) -> int:
    # Read under the locks: what has followed meanwhile is no leak.
    matches = list(
        BillingMatch.objects.filter(pk__in=item_ids, due_at__lte=unit.now)
        .select_related("item__order")
        .order_by("pk")
    )
    plans = fulfillments.newest_plans(
        fulfillment_ids=[m.item.order.fulfillment_id for m in matches]
    )
    tasks = _tasks_of(plans.values())
    left_out = _left_out(matches)
    sums = leaks.worth_of(matches, plans=plans)
    opened, over = 0, []
    for match in matches:
        plan = plans[match.item.order.fulfillment_id]
        agreed = terms.of_graph(plan.graph_id)
        within = agreed.billed_within.get(match.item.position, left_out.get(match.item_id))
        if within is None:  # It runs on a workflow that bills nothing by now.
            over.append(match)
            BillingMatch.objects.filter(pk=match.pk).delete()
            continue
        missing = _complete(match, plan, agreed, tasks)
        leak = match.leak
        if match.service_at is None and match.billed_at is None:
            over.append(match)
            BillingMatch.objects.filter(pk=match.pk).delete()
            continue
        if leak is None:
            over.append(match)
            match.due_at = None
        elif match.since + within > unit.now:  # By its version of now it has more time.
            match.due_at = match.since + within
        else:
            if not match.filed:
                worth = sums[match.item_id]
                cases.open_case(unit, fallout=_fallout(match, leak, plan, missing, worth))
                opened += 1
            match.filed, match.due_at = True, unit.now + _LOOK_AGAIN
        match.save(update_fields=["service_at", "billed_at", "due_at", "filed"])
    others = [
        leaks.subject(match.item_id, other)
        for match in matches
        if (leak := match.leak) is not None
        for other in Leak
        if other is not leak
    ]
    cases.resolve_cases(
        unit, subjects=others, resolution="By now it is the other way round; that has its own case."
    )
    cases.resolve_cases(
        unit,
        subjects=[leaks.subject(m.item_id, leak) for m in over if m.filed for leak in Leak],
        resolution="Service and billing agree by now, or nothing is to be billed any more.",
    )
    return opened


def _tasks_of(plans: Collection[Plan]) -> dict[tuple[int, int], Task]:
    """Those that activate or bill, or undo that, by plan and node."""
    nodes = {
        node
        for plan in plans
        for agreed in [terms.of_graph(plan.graph_id)]
        for node in agreed.watched
    }
    rows = Task.objects.filter(plan__in=plans, node__in=nodes, element=0, round=0)
    return {(task.plan_id, task.node): task for task in rows}


def _left_out(matches: Collection[BillingMatch]) -> dict[int, timedelta]:
    """By item what its product allows, of those that an amendment has left out since: as the last
    plan has it that had to do with them."""
    gone = [match for match in matches if match.item.removed_in_version is not None]
    known: dict[int, list[int]] = {}
    rows = Plan.objects.filter(fulfillment__in={m.item.order.fulfillment_id for m in gone})
    for fulfillment_id, graph_id in rows.order_by("-version").values_list("fulfillment", "graph"):
        known.setdefault(fulfillment_id, []).append(graph_id)
    found = {}
    for match in gone:
        for graph_id in known[match.item.order.fulfillment_id]:
            within = terms.of_graph(graph_id).billed_within.get(match.item.position)
            if within is not None:
                found[match.item_id] = within
                break
    return found


def _complete(
    match: BillingMatch, plan: Plan, agreed: Terms, tasks: Mapping[tuple[int, int], Task]
) -> Task | None:
    """Note what is there and was not told, such as under an older release. Returns the task of
    what is missing, if there is one."""
    position = match.item.position
    if position not in agreed.billing:
        return _undoing(match, plan, agreed, tasks)
    if match.billed_at is None:
        task = tasks.get((plan.pk, agreed.billing[position]))
        if task is not None and task.state == TaskState.SUCCEEDED:
            match.billed_at = task.changed_at
        return task
    if position in agreed.active_with_order:
        if plan.state == PlanState.COMPLETED:
            match.service_at = plan.finished_at
        return None
    node = next(node for node, items in agreed.activating.items() if position in items)
    task = tasks.get((plan.pk, node))
    if task is not None and task.state in (
        TaskState.SUCCEEDED,
        TaskState.WAIVED_BY_AUTHORIZED_USER,
    ):
        match.service_at = task.changed_at
    return task


def _undoing(
    match: BillingMatch, plan: Plan, agreed: Terms, tasks: Mapping[tuple[int, int], Task]
) -> Task | None:
    """Of an item that is given up: the task that undoes what is still there, if there is one."""
    nodes = agreed.uncharging if match.service_at is None else agreed.deactivating
    of_it = (node for node, items in nodes.items() if match.item.position in items)
    return next((task for node in of_it if (task := tasks.get((plan.pk, node)))), None)


def _fallout(
    match: BillingMatch, leak: Leak, plan: Plan, missing: Task | None, worth: leaks.Sums
) -> cases.Fallout:
    item = match.item
    active, ends = leak is Leak.ACTIVE_WITHOUT_BILLING, item.action == ItemAction.DISCONNECT
    what = f"Item {item.item_id} ({item.offering})"
    state = "Its order is not complete."
    if plan.state in _GIVEN_UP:
        state = "Its order is given up, and nothing undoes this by itself."
    if item.removed_in_version is not None:
        state = "It is no part of its order any more, and nothing undoes this by itself."
    if missing is not None:
        state = f"{missing.key} is {missing.state}."
        if missing.blocked_reason:
            state += f" {missing.blocked_reason}"
    return cases.Fallout(
        subject=leaks.subject(item.pk, leak),
        category=CaseCategory.LEAKAGE,
        severity=Severity.HIGH if worth or not active else Severity.MEDIUM,
        reason_code=leak.value.lower(),
        title=f"{item.order.reference} · item {item.item_id} is {_TITLES[leak]}",
        explanation=f"{what} {_SINCE[leak, ends]} {match.since:%Y-%m-%d %H:%M} UTC, "
        f"{_STILL[leak, ends]}. {state} {_ADVICE[leak]}",
        facts={
            "item": item.item_id,
            "offering": item.offering,
            "action": item.action,
            "since": match.since.isoformat(),
            "missing_task": missing.key if missing else None,
            "missing_task_state": str(missing.state) if missing else None,
            "worth": leaks.in_words(worth),
        },
        repair_options=(Action.TASK_RETRY, Action.PLAN_REGENERATE, Action.ORDER_CHANGE),
        fulfillment_id=item.order.fulfillment_id,
        plan_id=plan.pk,
        task_id=missing.pk if missing else None,
        customer_impact="" if active else "The customer pays for what is not there.",
        revenue=_revenue(item.position, worth) if active else {},
    )


def _revenue(position: int, worth: leaks.Sums) -> cases.Revenue:
    currencies = sorted({currency for currency, _ in worth})
    return {
        str(position): {
            currency: [
                f"{worth.get((currency, kind), Decimal()):f}" for kind in ("once", "recurring")
            ]
            for currency in currencies
        }
    }
