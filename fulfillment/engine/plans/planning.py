"""Planning: fulfillments and the plans that are generated for them, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from fulfillment.definitions.graph import Graph, validate_graph
from fulfillment.definitions.readiness import Place
from fulfillment.engine.plans.completion import update_plan
from fulfillment.engine.plans.selection import select_or_defer
from fulfillment.engine.protection import fairness
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import Table, allocate
from fulfillment.engine.structure import priorities
from fulfillment.engine.structure.instantiation import at_first, new_tasks
from fulfillment.engine.timing import jeopardy
from fulfillment.engine.work.port import Notice, PlanChange
from fulfillment.engine.work.rows import fresh
from fulfillment.engine.work.unit import LockedFulfillment, Unit
from fulfillment.errors import DefinitionInvalid, Fault
from fulfillment.models import Plan, TargetSystem
from fulfillment.states import PlanState

_FULFILLMENTS = Table(
    "fulfillment_fulfillment",
    id="bigint",
    order_reference="text",
    correlation_id="text",
    priority="smallint",
    rank="bigint",
    customer="text",
    business_key="text",
    audit_sequence="int",
    audit_head="text",
)


_PRIORITY = "UPDATE fulfillment_fulfillment SET priority = %s WHERE id = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class FulfillmentRequest:
    """An order that is to be fulfilled, known to the engine only by its reference."""

    order_reference: str
    correlation_id: str
    priority: int
    customer: str = ""
    """Opaque; only holds look at it."""
    business_key: str = ""
    """`<owner>/<name>`: orders of the same owner may name it by what follows the first slash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """One plan to generate: the validated shape, and the order as it is now."""

    fulfillment_id: int
    order_version: int
    graph: Graph
    context: Mapping[str, Any]
    """{"order": {…}, "items": {"<position>": {…}}}: what input mappings may refer to."""
    stalls_after: timedelta
    due_at: datetime | None = None
    """As the customer was promised."""


def create_fulfillments(unit: Unit, *, requests: Sequence[FulfillmentRequest]) -> list[int]:
    """Insert one row per order, owned by this unit until it commits. Ids in request order."""
    fresh = allocate(unit.raw, "fulfillment_fulfillment", len(requests))
    ranks = fairness.ranks(
        unit.raw, customers=[request.customer for request in requests], now=unit.now
    )
    created = [
        LockedFulfillment(
            id=next(fresh),
            order_reference=request.order_reference,
            correlation_id=request.correlation_id,
            priority=request.priority,
            rank=rank,
            customer=request.customer,
            business_key=request.business_key,
            audit_sequence=0,
            audit_head="",
        )
        for request, rank in zip(requests, ranks, strict=True)
    ]
    _FULFILLMENTS.insert(
        unit.raw,
        [
            (
                f.id,
                f.order_reference,
                f.correlation_id,
                f.priority,
                f.rank,
                f.customer,
                f.business_key,
                0,
                "",
            )
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
            graph_ids[request.graph.sha256] = stored_graph(unit, graph=request.graph)
    plan_ids = allocate(unit.raw, "fulfillment_plan", len(requests))
    first = {request.graph.sha256: at_first(request.graph) for request in requests}
    task_ids = allocate(
        unit.raw, "fulfillment_task", sum(len(first[r.graph.sha256]) for r in requests)
    )
    wanted: dict[int, list[Place]] = {}
    for request in requests:
        nodes = first[request.graph.sha256]
        plan = _plan(unit, request, next(plan_ids), graph_ids[request.graph.sha256], len(nodes))
        _set_priority(unit, plan)
        new_tasks(unit, plan=plan, graph=request.graph, nodes=nodes, task_ids=task_ids)
        start(unit, plan=plan, cause="generated from published workflow templates")
        unit.notices.append(
            Notice(
                fulfillment_id=plan.fulfillment_id,
                plan_id=plan.id,
                graph_id=plan.graph_id,
                change=PlanChange.STARTED,
            )
        )
        wanted[plan.id] = [(node, 0) for node in nodes]
    select_or_defer(unit, wanted=wanted, cause="the plan started")
    for plan_id in wanted:
        update_plan(unit, plan=unit.plans[plan_id])


def graph_faults(*, graph: Graph) -> list[Fault]:
    """Everything for which no plan of this graph may run; a stored graph has no faults."""
    return [] if graphs.known_id(graph=graph) is not None else faults_of_new(graph=graph)


def faults_of_new(*, graph: Graph) -> list[Fault]:
    """The same of one that is hardly stored already: to look for it takes longer."""
    return validate_graph(graph, dict.fromkeys(TargetSystem.objects.values_list("pk", flat=True)))


def stored_graph(unit: Unit, *, graph: Graph) -> int:
    """The id of the stored graph; only a graph without faults is ever stored.

    Raises DefinitionInvalid with every fault of another one.
    """
    known = graphs.known_id(graph=graph)
    if known is not None:
        return known
    faults = graph_faults(graph=graph)
    if faults:
        raise DefinitionInvalid(faults)
    graph_id = graphs.store(unit.raw, graph=graph)
    transaction.on_commit(lambda: graphs.remember(graph=graph, graph_id=graph_id))
    return graph_id


def _plan(unit: Unit, request: PlanRequest, plan_id: int, graph_id: int, tasks: int) -> Plan:
    # What a decision has yet to create counts as open.
    mandatory = len(request.graph.mandatory)
    plan = fresh(
        Plan,
        id=plan_id,
        fulfillment_id=request.fulfillment_id,
        order_version=request.order_version,
        graph_id=graph_id,
        context=request.context,
        tasks_total=tasks,
        tasks_open=tasks,
        mandatory_total=mandatory,
        mandatory_open=mandatory,
        due_at=request.due_at,
        look_at=jeopardy.first_look(graph_id=graph_id, due_at=request.due_at, now=unit.now),
        stalls_after=request.stalls_after,
        last_progress_at=unit.now,
        patient_until=unit.now + request.stalls_after,
        created_at=unit.now,
    )
    unit.new_plans.append(plan)
    unit.adopt_plans([plan])
    if request.graph.deadline is not None:
        plan.finish_by = unit.now + request.graph.deadline
        unit.clocked_plans.add(plan.id)
    return plan


def _set_priority(unit: Unit, plan: Plan) -> None:
    """As its workflow says, if it says anything."""
    locked = unit.fulfillments[plan.fulfillment_id]
    priority = priorities.priority_of(plan=plan, asked=locked.priority)
    if priority != locked.priority:
        locked.priority = priority
        unit.raw.execute(_PRIORITY, [priority, locked.id], prepare=True)


def start(unit: Unit, *, plan: Plan, cause: str, **details: Any) -> None:
    """Let a new plan run: its graph has been validated when it was stored."""
    unit.record(
        fulfillment_id=plan.fulfillment_id,
        entity="plan",
        entity_id=str(plan.id),
        name="create",
        before="",
        after=PlanState.CREATED,
        cause=cause,
        details=details,
    )
    unit.change_plan(plan, Plan.graph_validated, cause="the graph has no faults")
    unit.change_plan(plan, Plan.start, cause="its order is ready for fulfilment")
