"""Invariants of plans: which may run, when one is complete, and what never changes any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from fulfillment import stuck
from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.node_parts import Edge, EdgeType
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.plans.planning import PlanRequest, create_plans
from fulfillment.engine.work.running import run_unit
from fulfillment.errors import DefinitionInvalid, PublishedVersionDiffers
from fulfillment.models import (
    Attempt,
    Command,
    Fulfillment,
    Plan,
    PlanGraph,
    Task,
    Transition,
    WorkflowVersion,
)
from fulfillment.publishing import publish
from fulfillment.states import PLAN_TERMINAL, PlanState
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def a_chain_of(*names: str) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            name: desk.task(after=[before] if before else [])
            for before, name in zip(["", *names], names, strict=False)
        }
    )


def another_plan(plan: Plan, **values: Any) -> Plan:
    copy = {
        field.attname: getattr(plan, field.attname)
        for field in Plan._meta.concrete_fields
        if field.attname != "id"
    }
    return Plan.objects.create(**{**copy, "version": plan.version + 1, **values})


def supersede(order: Order) -> None:
    """As an amendment will do: only the plan's state says so."""
    assert Plan.objects.filter(fulfillment=order.fulfillment_id).update(state="SUPERSEDED") == 1


def test_one_active_plan(systems: ScriptedSystems) -> None:
    a_chain_of("one")
    plan = desk.plan_of(desk.order())
    for state in set(PlanState) - PLAN_TERMINAL:
        with pytest.raises(IntegrityError, match="one_active_plan"), transaction.atomic():
            another_plan(plan, state=state)
    Plan.objects.filter(pk=plan.pk).update(state="SUPERSEDED")
    successor = another_plan(plan, state="RUNNING")
    with pytest.raises(IntegrityError, match="one_active_plan"), transaction.atomic():
        Plan.objects.filter(pk=plan.pk).update(state="RUNNING")
    assert list(Plan.objects.exclude(state__in=PLAN_TERMINAL)) == [successor]


def test_superseded_silent(systems: ScriptedSystems, clock: Clock) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "on_the_wire": desk.task(),
            "ready": desk.task(),
            "waiting": desk.task(after=["on_the_wire"]),
        }
    )
    order = desk.order()
    (claim,) = desk.claim()
    assert claim.command.action == "on_the_wire"
    supersede(order)
    assert desk.claim(limit=10) == []
    desk.settle(desk.result(claim, desk.succeeded()))
    Plan.objects.update(selection_due_at=desk.now())
    scanning.scan()
    clock(3600)
    desk.drain()
    assert desk.states_of(order) == {
        "on_the_wire@1": "SUCCEEDED",  # what is on the wire settles
        "ready@1": "READY",
        "waiting@1": "PENDING",
    }
    assert systems.sent == []
    assert Command.objects.count() == 2
    plan = desk.plan_of(order)
    order.refresh_from_db()
    assert (plan.state, order.state) == ("SUPERSEDED", "IN_PROGRESS")


def test_a_failure_in_a_superseded_plan_is_not_tried_again(
    systems: ScriptedSystems, clock: Clock
) -> None:
    a_chain_of("one")
    order = desk.order()
    (claim,) = desk.claim()
    supersede(order)
    desk.settle(desk.result(claim, desk.failed()))
    clock(3600)
    desk.drain()
    assert systems.sent == []


def test_a_superseded_plan_does_not_stand_in_the_way_of_others(systems: ScriptedSystems) -> None:
    a_chain_of("one")
    silent = [desk.order(priority=9) for _ in range(3)]
    for order in silent:
        supersede(order)
    living = desk.order(priority=1)
    assert [claim.fulfillment_id for claim in desk.claim(limit=1)] == [living.fulfillment_id]


def test_completed_immutable(systems: ScriptedSystems, clock: Clock) -> None:
    a_chain_of("one", "two")
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.succeeded()))
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"

    def everything() -> list[list[dict[str, Any]]]:
        models = (Order, Plan, Task, Command, Attempt)
        return [list(model.objects.order_by("pk").values()) for model in models]

    before, history = everything(), list(Transition.objects.values())
    for outcome in (
        desk.succeeded(other="outputs"),
        desk.accepted(),
        desk.rejected(),
        desk.failed(),
        desk.failed(retryable=False),
        desk.unknown(),
        desk.not_found(),
    ):
        desk.settle(desk.result(claim, outcome))
        desk.settle(desk.result(claim, outcome, attempt_id=None, attempt_number=None))
    clock(24 * 3600)
    desk.drain()
    sweeping.sweep()
    scanning.scan()
    stuck.detect_stuck()
    assert everything() == before
    # What contradicts it is added to the history, which is otherwise as it was.
    after = list(Transition.objects.values())
    assert after[: len(history)] == history
    told = {(row["entity"], row["name"]) for row in after[len(history) :]}
    assert told == {("task", "conflicting_outcome"), ("case", "open")}


FAULTS: dict[str, Callable[[Graph], Graph]] = {
    "cycle": lambda graph: with_edges(graph, (1, 0)),
    "missing_dependency": lambda graph: with_edges(graph, (9, 0)),
    "undeclared_output": lambda graph: with_edges(graph, (0, 1), output="number"),
}


def with_edges(graph: Graph, pair: tuple[int, int], output: str | None = None) -> Graph:
    kind = EdgeType.OUTPUT if output else EdgeType.SUCCESS
    edge = Edge(source=pair[0], target=pair[1], type=kind, output=output)
    return Graph(workflows=graph.workflows, nodes=graph.nodes, edges=(*(graph.edges), edge))


def a_graph() -> Graph:
    definition = desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    return decompose(
        items=[ItemSelection(position=1, offering="thing", action="add", definition=definition)]
    )


def plan_it(graph: Graph) -> None:
    fulfillment = Fulfillment.objects.create(order_reference="O-0", correlation_id="c")
    request = PlanRequest(
        fulfillment_id=fulfillment.pk,
        order_version=1,
        graph=graph,
        context={"order": {}, "items": {}},
        stalls_after=graph.stalls_after,
    )
    run_unit(
        lambda unit: create_plans(unit, requests=[request]),
        fulfillment_ids=[fulfillment.pk],
        actor="a test",
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_graph_before_run(fault: str) -> None:
    desk.target("alpha")
    graph = FAULTS[fault](a_graph())
    with pytest.raises(DefinitionInvalid) as refused, transaction.atomic():
        plan_it(graph)
    assert f"graph.{fault}" in {found.code for found in refused.value.faults}
    assert not Plan.objects.exists()
    assert not PlanGraph.objects.exists()


def test_a_graph_whose_target_is_gone_does_not_run() -> None:
    desk.target("alpha")
    graph = a_graph()
    desk.TargetSystem.objects.all().delete()
    with pytest.raises(DefinitionInvalid, match="unknown_target"), transaction.atomic():
        plan_it(graph)
    assert not Plan.objects.exists()


def test_a_validated_graph_runs() -> None:
    desk.target("alpha")
    plan_it(a_graph())
    plan = Plan.objects.get()
    assert plan.state == "RUNNING"
    moves = Transition.objects.filter(entity="plan").values_list("to_state", flat=True)
    assert list(moves) == ["CREATED", "READY", "RUNNING"]


def test_order_completes_on_evidence(systems: ScriptedSystems, clock: Clock) -> None:
    a_chain_of("one", "two")
    order = desk.order()
    systems.sends["one"] = [desk.accepted()]
    systems.sends["two"] = [desk.failed(retry_after=timedelta(seconds=1)), desk.unknown()]
    seen = set()
    for _ in range(12):
        order.refresh_from_db()
        states = set(desk.states_of(order).values())
        seen |= states
        assert (order.state == "COMPLETED") == (states == {"SUCCEEDED"})
        desk.drain(rounds=1)
        clock(200)
        sweeping.sweep()
    assert order.state == "COMPLETED"
    assert {"FAILED_RETRYABLE", "ACCEPTED", "SUCCEEDED"} <= seen


@pytest.mark.parametrize("state", ["READY", "DISPATCHED", "ACCEPTED", "FAILED_FINAL"])
def test_the_database_refuses_a_completed_plan_without_evidence(state: str) -> None:
    a_chain_of("one")
    plan = desk.plan_of(desk.order())
    Task.objects.update(state=state)
    with pytest.raises(IntegrityError, match="order_completes_on_evidence"), transaction.atomic():
        Plan.objects.filter(pk=plan.pk).update(state="COMPLETED")


def test_deterministic_selection(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "late": desk.task(after=["first"]),
            "first": desk.task(),
            "second": desk.task(),
        }
    )
    low, high, middle, also_high = (desk.order(priority=priority) for priority in (-1, 5, 0, 5))
    for claim in desk.claim(limit=3):
        # Of the first order by priority: its second task, and the one behind it, come in time.
        desk.settle(desk.result(claim, desk.succeeded()))
    expected = list(
        Task.objects.filter(state="READY")
        .order_by("-priority", "rank", "depth", "id")
        .values_list("id", flat=True)
    )
    one_by_one = [desk.claim(limit=1)[0].task_id for _ in range(4)]
    together = [claim.task_id for claim in desk.claim(limit=50)]
    assert one_by_one + together == expected
    # And what the rule means for these four orders, spelled out.
    tasks = {task.pk: task for task in Task.objects.all()}
    assert [(tasks[pk].fulfillment_id, tasks[pk].key.removesuffix("@1")) for pk in expected] == [
        (high.fulfillment_id, "late"),
        (also_high.fulfillment_id, "second"),
        (also_high.fulfillment_id, "late"),
        (middle.fulfillment_id, "first"),
        (middle.fulfillment_id, "second"),
        (low.fulfillment_id, "first"),
        (low.fulfillment_id, "second"),
    ]


def test_version_pinned(systems: ScriptedSystems) -> None:
    a_chain_of("one", "two")
    running = desk.order()
    (claim,) = desk.claim()
    second = {"new": desk.task(), "two": desk.task(after=["new"], action="two_of_v2")}
    desk.workflow(second, version=2)
    desk.settle(desk.result(claim, desk.succeeded()))
    fresh = desk.order()
    desk.drain()
    for order in (running, fresh):
        order.refresh_from_db()
        assert order.state == "COMPLETED"
    assert set(desk.tasks_of(running)) == {"one@1", "two@1"}
    assert set(desk.tasks_of(fresh)) == {"new@1", "two@1"}
    by_order = [(command.order_reference, command.action) for command in systems.sent]
    assert (running.reference, "two") in by_order
    assert (running.reference, "two_of_v2") not in by_order
    assert (fresh.reference, "two_of_v2") in by_order


def test_a_published_version_never_changes() -> None:
    a_chain_of("one")
    before = WorkflowVersion.objects.values().get()
    same = desk.workflow({"one": desk.task()})
    assert publish(definition=same, published_by="somebody").is_new is False
    with pytest.raises(PublishedVersionDiffers):
        desk.workflow({"one": desk.task(title="Another title")})
    assert WorkflowVersion.objects.values().get() == before
