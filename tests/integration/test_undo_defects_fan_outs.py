"""Fan-outs in plans that are given up, or whose order changes (§14, §20)."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment.definitions.concern import ChangeKind
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.plans import undoing
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.store import graphs
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.publishing import publish
from fulfillment.states import PlanState
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def change(order: Order, **characteristics: Any) -> None:
    """All of it is given up; or its item has these characteristics from now on."""
    plan_id = desk.newest_plan_of(order).pk

    def work(unit: Unit) -> None:
        unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
        plan = unit.plans[plan_id]
        wanted = _revised(plan, characteristics) if characteristics else None
        found = undoing.assess(unit, plan=plan, wanted=wanted)
        assert not found.refusals
        assert found.is_at_rest
        undoing.carry_out(unit, plan=plan, wanted=wanted, assessment=found, reason="a test")

    run_unit(work, fulfillment_ids=[order.fulfillment_id], actor="a test")


def _revised(plan: Plan, characteristics: dict[str, Any]) -> Wanted:
    context = graphs.context_of(plan)
    first = Plan.objects.get(fulfillment_id=plan.fulfillment_id, version=1)
    item = {**context["items"]["1"], "characteristics": characteristics}
    return Wanted(
        graph=graphs.by_id(first.graph_id),
        context={**context, "items": {"1": item}},
        order_version=plan.order_version + 1,
        changed={1: [ChangeKind.CHARACTERISTICS]},
    )


def sites(*names: str) -> Order:
    desk.target("alpha")
    desk.workflow(
        {
            "build": desk.task(
                for_each={"over": "${item.characteristics.sites}"},
                input={"site": "${element}"},
                compensation={"action": "tear_down", "input": {"site": "${element}"}},
            ),
            "paint": desk.task(
                after=["build"],
                for_each={"over": "${item.characteristics.sites}"},
                input={"site": "${element}"},
                compensation={"action": "strip", "input": {"site": "${element}"}},
            ),
            "last": desk.task("beta", after=["paint"]),
        }
    )
    return desk.order(desk.item(characteristics={"sites": list(names)}))


def sent(systems: ScriptedSystems, action: str) -> list[Any]:
    return sorted(one.payload["site"] for one in systems.sent if one.action == action)


def test_a_list_changes_while_its_elements_are_halfway(systems: ScriptedSystems) -> None:
    """What each of them has yet to do is not done for the list as it was."""
    desk.target("alpha")
    desk.target("beta")
    site = {"site": "${inputs.site}"}
    publish(
        definition=WorkflowDefinition.model_validate(
            {
                "workflow": "visit",
                "version": 1,
                "title": "A visit",
                "subprocess": {"inputs": {"site": "string"}},
                "tasks": {
                    "measure": desk.task(
                        action="measure",
                        input=site,
                        compensation={"action": "erase", "input": site},
                    ),
                    "report": desk.task("beta", action="report", after=["measure"], input=site),
                },
            }
        ),
        published_by="a test",
    )
    visit = desk.step(
        use="visit",
        for_each={"over": "${item.characteristics.sites}"},
        input={"site": "${element}"},
    )
    desk.workflow({"visit": visit})
    order = desk.order(desk.item(characteristics={"sites": ["a", "b"]}))
    desk.drain(["alpha"])
    change(order, sites=["c"])
    desk.finish()
    assert sent(systems, "erase") == ["a", "b"]
    assert sent(systems, "report") == ["c"]
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def test_a_list_changes_twice_while_its_elements_are_being_undone(
    systems: ScriptedSystems,
) -> None:
    desk.target("beta")
    order = sites("a", "b")
    systems.sends["last"] = [desk.accepted()]
    desk.drain(["alpha"])
    change(order, sites=["c"])
    (strip,) = desk.claim()
    change(order, sites=["d"])
    desk.finish()
    assert "build" not in {one.action for one in systems.sent[4:]}
    desk.settle_call(strip, desk.succeeded())
    desk.finish()
    assert sent(systems, "tear_down") == ["a", "b"]
    assert sent(systems, "build") == ["a", "b", "d"]
    actions = systems.actions()
    assert actions.index("build", 4) > max(
        at for at, one in enumerate(actions) if one == "tear_down"
    )


def test_two_long_lists_are_undone_one_after_the_other(systems: ScriptedSystems) -> None:
    """So long that a node stands between their undos."""
    desk.target("beta")
    names = [f"s{n:02}" for n in range(40)]
    order = sites(*names)
    desk.drain(["alpha"])
    systems.sent.clear()
    change(order)
    assert Task.objects.filter(plan=desk.newest_plan_of(order), target_id="").count() == 1
    desk.finish()
    assert systems.actions() == ["strip"] * 40 + ["tear_down"] * 40
    assert sent(systems, "tear_down") == names
    assert desk.newest_plan_of(order).state == PlanState.CANCELLED
