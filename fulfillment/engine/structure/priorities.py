"""The priority of an order, where its workflow says how it follows from the order's data.

`priority: "${order.customer.tier == 'gold' ? 20 : order.priority}"` is evaluated when the plan is
made, and again when the plan comes into jeopardy or out of it (`plan.in_jeopardy`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fulfillment.definitions.references import resolve
from fulfillment.engine.store import graphs
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import FulfillmentError
from fulfillment.models import Plan

logger = logging.getLogger(__name__)

HIGHEST = 1_000
_OF_TASKS = """
UPDATE fulfillment_task SET priority = %s
WHERE plan_id = %s AND priority <> %s AND state NOT IN (
    'SUCCEEDED', 'SKIPPED_BY_POLICY', 'WAIVED_BY_AUTHORIZED_USER', 'CANCELLED')
"""
"""What has failed for good may yet be tried again by hand."""
_OF_ORDER = "UPDATE fulfillment_fulfillment SET priority = %s WHERE id = %s"


def priority_of(*, plan: Plan, asked: int) -> int:
    """As its workflows say, the highest of them; `asked` where they say nothing.

    What can't be evaluated is no reason to keep an order from running.
    """
    found: list[int] = []
    for workflow in graphs.by_id(plan.graph_id).workflows:
        if not workflow.priority:
            continue
        try:
            value = resolve(workflow.priority, _values(plan, workflow.items))
        except FulfillmentError as error:
            logger.warning(
                "a priority can't be told", extra={"plan": plan.id, "reason": str(error)}
            )
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            found.append(max(-HIGHEST, min(HIGHEST, value)))
    return max(found, default=asked)


def renew(unit: Unit, *, plan: Plan) -> None:
    """Evaluate it again; the tasks that are still to be done follow, in one statement."""
    if not any(workflow.priority for workflow in graphs.by_id(plan.graph_id).workflows):
        return
    asked = unit.fulfillments[plan.fulfillment_id].priority
    _follow(unit, plan, asked=asked, cause="its workflow's priority has another value now")


def ask(unit: Unit, *, plan: Plan, priority: int) -> None:
    """The order asks for another priority than before; its workflows decide, as when it came."""
    _follow(unit, plan, asked=priority, cause="its order asks for another priority")


def _follow(unit: Unit, plan: Plan, *, asked: int, cause: str) -> None:
    locked = unit.fulfillments[plan.fulfillment_id]
    priority = priority_of(plan=plan, asked=asked)
    if priority == locked.priority:
        return
    unit.record(
        fulfillment_id=plan.fulfillment_id,
        entity="plan",
        entity_id=str(plan.id),
        name="change_priority",
        before=str(plan.state),
        after=str(plan.state),
        cause=cause,
        details={"before": locked.priority, "after": priority},
    )
    locked.priority = priority
    unit.raw.execute(_OF_ORDER, [priority, plan.fulfillment_id], prepare=True)
    unit.raw.execute(_OF_TASKS, [priority, plan.id, priority], prepare=True)
    for task in unit.tasks.values():
        if task.plan_id == plan.id:
            task.priority = priority


def _values(plan: Plan, items: tuple[int, ...]) -> Mapping[str, Any]:
    context = graphs.context_of(plan)
    return {
        "order": context["order"],
        "items": [context["items"][str(position)] for position in items],
        "plan": plan_values(plan),
    }


def plan_values(plan: Plan) -> Mapping[str, Any]:
    """What `plan.` offers to mappings and expressions."""
    return {
        "created_at": plan.created_at.isoformat(),
        "order_version": plan.order_version,
        "in_jeopardy": plan.at_risk_since is not None,
    }
