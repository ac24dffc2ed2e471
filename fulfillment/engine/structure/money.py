"""What undoing tasks costs the customer, and what the customer gets back (reference §14.1, §19)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from fulfillment.definitions.amounts import amount_of
from fulfillment.definitions.assessment import Charge, Direction
from fulfillment.definitions.nodes import Node
from fulfillment.engine.store import graphs
from fulfillment.engine.structure.scope import scope_after
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import Plan, Task
from fulfillment.states import TaskState


def charges(unit: Unit, *, plan: Plan, tasks: Iterable[Task]) -> Iterator[Charge]:
    """Refunds and costs of undoing those of these tasks that are done.

    An amount that can't be worked out is left out of the sum with a reason that says so.
    """
    for task in tasks:
        if task.state != TaskState.SUCCEEDED:
            continue
        node = graphs.routed(plan.graph_id, task.node, task.route)
        undo, final = node.compensation, node.point_of_no_return
        if undo is not None and undo.refund:
            yield _charge(unit, plan, task, node, Direction.REFUND, undo.refund, "")
        if final is not None and final.cost:
            yield _charge(unit, plan, task, node, Direction.COST, final.cost, final.reason)


def _charge(
    unit: Unit, plan: Plan, task: Task, node: Node, way: Direction, mapping: str, reason: str
) -> Charge:
    try:
        scope = scope_after(unit, plan=plan, task=task, returned=task.outputs or {})
        amount = _amount(scope.value(mapping))
    except ValueUnavailable as error:
        amount, reason = Decimal(0), f"The amount can't be told: {error}"
    return Charge(
        task=task.key,
        items=node.items,
        direction=way,
        amount=amount,
        currency=_currency(plan, node),
        reason=reason,
    )


def _amount(value: Any) -> Decimal:
    """Of a number, or of text as prices are; nothing is worth nothing."""
    try:
        return Decimal(0) if value is None else amount_of(value)
    except ValueError as error:
        raise ValueUnavailable(str(error)) from error


def _currency(plan: Plan, node: Node) -> str:
    context = graphs.context_of(plan)
    prices = (context["items"].get(str(one), {}).get("price") or {} for one in node.items)
    found = {price["currency"] for price in prices if price.get("currency")}
    return found.pop() if len(found) == 1 else context["order"].get("currency") or ""
