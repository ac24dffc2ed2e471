"""Planning: fulfillments and the plans that are generated for them, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction

from fulfillment.definitions.graph import Graph, validate_graph
from fulfillment.engine import graphs
from fulfillment.engine.completion import update_plan
from fulfillment.engine.database import Table, allocate
from fulfillment.engine.port import Notice, PlanChange
from fulfillment.engine.selection import select_or_defer
from fulfillment.engine.unit import LockedFulfillment, Unit
from fulfillment.errors import DefinitionInvalid, Fault
from fulfillment.models import Plan, TargetSystem, Task
from fulfillment.states import PlanState, TaskState

_FULFILLMENTS = Table(
    "fulfillment_fulfillment",
    id="bigint",
    order_reference="text",
    correlation_id="text",
    priority="smallint",
    customer="text",
    audit_sequence="int",
    audit_head="text",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FulfillmentRequest:
    """An order that is to be fulfilled, known to the engine only by its reference."""

    order_reference: str
    correlation_id: str
    priority: int
    customer: str = ""
    """Opaque; only holds look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """One plan to generate: the validated shape, and the order as it is now."""

    fulfillment_id: int
    order_version: int
    graph: Graph
    context: Mapping[str, Any]
    """{"order": {…}, "items": {"<position>": {…}}}: what input mappings may refer to."""
    stalls_after: timedelta


def create_fulfillments(unit: Unit, *, requests: Sequence[FulfillmentRequest]) -> list[int]:
    """Insert one row per order, owned by this unit until it commits. Ids in request order."""
    fresh = allocate(unit.raw, "fulfillment_fulfillment", len(requests))
    created = [
        LockedFulfillment(
            id=next(fresh),
            order_reference=request.order_reference,
            correlation_id=request.correlation_id,
            priority=request.priority,
            customer=request.customer,
            audit_sequence=0,
            audit_head="",
        )
        for request in requests
    ]
    _FULFILLMENTS.insert(
        unit.raw,
        [
            (f.id, f.order_reference, f.correlation_id, f.priority, f.customer, 0, "")
            for f in created
        ],
    )
    unit.fulfillments.update({fulfillment.id: fulfillment for fulfillment in created})
    return [fulfillment.id for fulfillment in created]


def create_plans(unit: Unit, *, requests: Sequence[PlanRequest]) -> None:
    """Insert the plans with all their tasks, start them, and select their first tasks.

    Raises DefinitionInvalid with every fault when a graph can't run: no plan of a graph that
    was not validated is ever started (graph-before-run).
    """
    graph_ids: dict[str, int] = {}
    for request in requests:
        if request.graph.sha256 not in graph_ids:
            graph_ids[request.graph.sha256] = _validated(unit, request.graph)
    plan_ids = allocate(unit.raw, "fulfillment_plan", len(requests))
    task_ids = allocate(
        unit.raw, "fulfillment_task", sum(len(request.graph.nodes) for request in requests)
    )
    for request in requests:
        plan = _plan(unit, request, next(plan_ids), graph_ids[request.graph.sha256])
        tasks = {
            node.index: Task(
                id=next(task_ids),
                plan_id=plan.pk,
                fulfillment_id=plan.fulfillment_id,
                node=node.index,
                key=node.key,
                state=TaskState.PENDING,
                target_id=node.target,
                priority=unit.fulfillments[plan.fulfillment_id].priority,
                depth=request.graph.depth[node.index],
                required=node.required,
                not_before=unit.now,
                changed_at=unit.now,
            )
            for node in request.graph.nodes
        }
        unit.new_tasks.extend(tasks.values())
        unit.adopt_tasks(tasks.values())
        _start(unit, plan)
        select_or_defer(
            unit,
            plan=plan,
            candidates=range(len(request.graph.nodes)),
            tasks=tasks,
            cause="the plan started",
        )
        update_plan(unit, plan=plan)


def graph_faults(*, graph: Graph) -> list[Fault]:
    """Everything for which no plan of this graph may run; a stored graph has no faults."""
    if graphs.known_id(graph=graph) is not None:
        return []
    return validate_graph(graph, dict.fromkeys(TargetSystem.objects.values_list("pk", flat=True)))


def _validated(unit: Unit, graph: Graph) -> int:
    """The id of the stored graph; only a graph without faults is ever stored."""
    known = graphs.known_id(graph=graph)
    if known is not None:
        return known
    faults = graph_faults(graph=graph)
    if faults:
        raise DefinitionInvalid(faults)
    graph_id = graphs.store(unit.raw, graph=graph)
    transaction.on_commit(lambda: graphs.remember(graph=graph, graph_id=graph_id))
    return graph_id


def _plan(unit: Unit, request: PlanRequest, plan_id: int, graph_id: int) -> Plan:
    mandatory = sum(node.required for node in request.graph.nodes)
    plan = Plan(
        id=plan_id,
        fulfillment_id=request.fulfillment_id,
        order_version=request.order_version,
        graph_id=graph_id,
        context=request.context,
        tasks_total=len(request.graph.nodes),
        tasks_open=len(request.graph.nodes),
        mandatory_total=mandatory,
        mandatory_open=mandatory,
        stalls_after=request.stalls_after,
        last_progress_at=unit.now,
        created_at=unit.now,
    )
    unit.new_plans.append(plan)
    unit.adopt_plans([plan])
    return plan


def _start(unit: Unit, plan: Plan) -> None:
    unit.record(
        fulfillment_id=plan.fulfillment_id,
        entity="plan",
        entity_id=str(plan.pk),
        name="create",
        before="",
        after=PlanState.CREATED,
        cause="generated from published workflow templates",
    )
    unit.change_plan(plan, Plan.graph_validated, cause="the graph has no faults")
    unit.change_plan(plan, Plan.start, cause="its order is ready for fulfilment")
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.pk,
            graph_id=plan.graph_id,
            change=PlanChange.STARTED,
        )
    )
