"""What operations are about: found by their names, with all that authority looks at."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from fulfillment.authority.context import Context
from fulfillment.definitions.graph import Node
from fulfillment.engine.store import graphs
from fulfillment.engine.work.rows import plans_by_id, tasks_by_id
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import SubjectUnknown
from fulfillment.models import Fulfillment, Plan, TargetSystem, Task
from fulfillment.operations.looking import found_once, one_look
from fulfillment.operations.repair import Found
from fulfillment.states import PLAN_SELECTABLE

_MOST_DIGITS = 18


def number_of(name: str, *, about: str) -> int:
    """Raises SubjectUnknown for what is no number of a row."""
    if not (name.isascii() and name.isdigit() and len(name) <= _MOST_DIGITS):
        raise SubjectUnknown(f"{name[:100]!r} is no number of a {about}; write it as {about}:12.")
    return int(name)


@found_once
def task_found(*, name: str) -> Found:
    """A task by its number, or by its order and its key: `12`, or `O-17/core/reserve`.

    Raises SubjectUnknown.
    """
    reference, slash, key = name.partition("/")
    rows = Task.objects.select_related("plan", "fulfillment")
    if slash:
        found = (
            rows.filter(fulfillment__order_reference=reference, key=key, round=0)
            .order_by("-plan__order_version", "-plan__version", "-pk")
            .first()
        )
    else:
        found = rows.filter(pk=number_of(name, about="task")).first()
    if found is None:
        raise SubjectUnknown(
            f"There is no task {name[:200]}. Name it by its number, or as O-17/its-key."
        )
    return _of_task(found, plan=found.plan)


@found_once
def tasks_found(*, pks: tuple[int, ...]) -> Mapping[int, Found]:
    """Tasks by their numbers; three queries."""
    rows = list(Task.objects.filter(pk__in=pks).select_related("fulfillment").defer("outputs"))
    plans = plans_found(pks=frozenset(row.plan_id for row in rows))
    for row in rows:
        row.plan = plans[row.plan_id]
    with one_look():
        return {row.pk: _of_task(row, plan=row.plan) for row in rows}


@found_once
def plans_found(*, pks: frozenset[int]) -> Mapping[int, Plan]:
    """Plans by their numbers. One carries the whole order, so that each is read once."""
    return Plan.objects.in_bulk(pks)


def _of_task(task: Task, *, plan: Plan) -> Found:
    node = _way_of(task)
    return Found(
        subject=f"task:{task.pk}",
        pk=task.pk,
        # An earlier round is over, whatever it says: the newest one is what is repaired.
        state=task.state if task.round == 0 else "",
        fulfillment_ids=(task.fulfillment_id,),
        context=context_of(
            subject=f"task:{task.pk}",
            order=task.fulfillment,
            plan=plan,
            targets=_targets(task, node),
            positions=node.items,
        ),
    )


def _way_of(task: Task) -> Node:
    return graphs.routed(task.plan.graph_id, task.node, task.route)


def task_version(unit: Unit, found: Found) -> str:
    """Another text whenever its state, attempts, way, plan, or what it returned are others; or
    when its plan does not go on any more."""
    unit.adopt_tasks(tasks_by_id(unit.raw, [found.pk]))
    task = unit.tasks[found.pk]
    unit.adopt_plans(plans_by_id(unit.raw, [task.plan_id]))
    plan = unit.plans[task.plan_id]
    told = json.dumps(
        [
            task.plan_id,
            plan.state in PLAN_SELECTABLE and plan.rest_due_at is None,
            task.state,
            task.route,
            task.attempts,
            task.changed_at.isoformat(),
            task.reference,
            task.outputs,
        ]
    )
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _targets(task: Task, node: Node) -> set[str]:
    """The system that it is for; of a list's beginning and end those of its elements, which are
    tried again, left out and given up with it."""
    graph = graphs.by_id(task.plan.graph_id)
    spread = next(
        (
            one.index
            for one in graph.nodes
            if one.fan_out is not None and task.node in (one.index, one.fan_out.gather)
        ),
        None,
    )
    nodes = [graph.nodes[one] for one in graph.groups.get(spread, ())] if spread is not None else []
    return {task.target_id or node.target, *(one.target for one in nodes)} - {None, ""}


@found_once
def order_found(*, name: str) -> Found:
    """An order by its reference, in the state of its plan. Raises SubjectUnknown."""
    order = Fulfillment.objects.filter(order_reference=name).first()
    if order is None:
        raise SubjectUnknown(f"There is no order {name[:100]}; write it as order:O-17.")
    return _of_order(order, plan=newest_plan(order.pk))


@found_once
def orders_found(*, pks: frozenset[int]) -> Mapping[int, Found]:
    """The same of several, by the numbers of their fulfillments; two queries, and one for each
    graph that this process has not read yet."""
    plans = Plan.objects.filter(fulfillment__in=pks)
    newest = plans.order_by("fulfillment", "-order_version", "-version").distinct("fulfillment")
    plan_of = {plan.fulfillment_id: plan for plan in newest}
    with one_look():
        return {
            pk: _of_order(order, plan=plan_of.get(pk))
            for pk, order in Fulfillment.objects.in_bulk(pks).items()
        }


def _of_order(order: Fulfillment, *, plan: Plan | None) -> Found:
    return Found(
        subject=f"order:{order.order_reference}",
        pk=order.pk,
        state=plan.state if plan is not None else "",
        fulfillment_ids=(order.pk,),
        context=context_of(
            subject=f"order:{order.order_reference}",
            order=order,
            plan=plan,
            targets={node.target for node in graphs.by_id(plan.graph_id).nodes if node.target}
            if plan is not None
            else (),
        ),
    )


def newest_plan(fulfillment_id: int) -> Plan | None:
    """The plan that an order goes by, or went by last."""
    plans = Plan.objects.filter(fulfillment=fulfillment_id)
    return plans.order_by("-order_version", "-version").first()


def context_of(
    *,
    subject: str,
    order: Fulfillment,
    plan: Plan | None,
    targets: Iterable[str] = (),
    positions: Collection[int] | None = None,
) -> Context:
    """Where in an order something is done; `positions` are the items that it is for, None: all."""
    known = graphs.context_of(plan) if plan is not None else {"order": {}, "items": {}}
    items = [
        item
        for position, item in known["items"].items()
        if positions is None or int(position) in positions
    ]
    names = frozenset(targets)
    return Context(
        subject=subject,
        order_reference=order.order_reference,
        owner=order.business_key.partition("/")[0],
        region=known["order"].get("region") or "",
        targets=names,
        domains=domains_of(names),
        products=frozenset(item["offering"] for item in items),
        amounts=_sold_for(items),
    )


def target_context(*, subject: str, target: str) -> Context:
    """What concerns a target system and no single order."""
    return Context(subject=subject, targets=frozenset({target}), domains=domains_of({target}))


def domains_of(targets: Collection[str]) -> frozenset[str]:
    """What kinds of systems these are."""
    known = _every_domain() if targets else {}
    return frozenset(known[name] for name in targets if name in known)


@found_once
def _every_domain() -> Mapping[str, str]:
    """By target system. There are few of them, and one look asks about several at a time."""
    return dict(TargetSystem.objects.values_list("pk", "domain"))


def _sold_for(items: Iterable[dict[str, Any]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for item in items:
        price = item.get("price") or {}
        for kind in ("one_off", "recurring"):
            try:
                amount = Decimal(price.get(kind) or 0) * int(item.get("quantity") or 1)
            except (InvalidOperation, TypeError, ValueError):
                continue
            if amount:
                sums[price.get("currency") or ""] += amount
    return dict(sums)
