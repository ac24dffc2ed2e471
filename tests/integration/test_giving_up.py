"""A plan is given up: what has been done is undone, in the reverse order, each once (§14)."""

from __future__ import annotations

import pytest

from fulfillment.definitions.assessment import Assessment, Becomes
from fulfillment.engine.plans import rest, undoing, withholding
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.unit import Unit, run_unit
from fulfillment.models import Command, FalloutCase, Plan, Task
from fulfillment.states import PlanState, TaskState
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def undone_by(action: str, **more: object) -> dict[str, object]:
    return {"action": action, "input": {}, **more}


def give_up(order: Order, *, ends_as: PlanState = PlanState.CANCELLED) -> Assessment:
    """As whoever cancels does; it has to be at rest."""
    plan_id = desk.newest_plan_of(order).pk

    def work(unit: Unit) -> Assessment:
        unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
        plan = unit.plans[plan_id]
        found = undoing.assess(unit, plan=plan, wanted=None)
        if not found.refusals and found.is_at_rest:
            undoing.carry_out(
                unit, plan=plan, wanted=None, assessment=found, reason="a test", ends_as=ends_as
            )
        else:
            withholding.await_rest(unit, plan=plan, reason="a test")
        return found

    return run_unit(work, fulfillment_ids=[order.fulfillment_id], actor="a test")


def diamond(**more: object) -> None:
    """one → (left, right) → last; each undone by undo_<name>."""
    desk.target("alpha")
    tasks = {"one": [], "left": ["one"], "right": ["one"], "last": ["left", "right"]}
    desk.workflow(
        {
            name: desk.task(after=after, compensation=undone_by(f"undo_{name}"))
            for name, after in tasks.items()
        },
        **more,
    )


def test_undo_runs_in_the_reverse_order_of_what_was_done(systems: ScriptedSystems) -> None:
    diamond()
    systems.sends["last"] = [desk.failed(retryable=False)]
    order = desk.order()
    desk.finish()
    found = give_up(order)
    assert {fate.key: fate.becomes for fate in found.fates} == {
        "one@1": Becomes.UNDONE,
        "left@1": Becomes.UNDONE,
        "right@1": Becomes.UNDONE,
        "last@1": Becomes.WITHDRAWN,
    }
    assert desk.newest_plan_of(order).state == PlanState.COMPENSATING
    systems.sent.clear()
    desk.finish()
    assert sorted(systems.actions()[:2]) == ["undo_left", "undo_right"]
    assert systems.actions()[2:] == ["undo_one"]
    assert desk.newest_plan_of(order).state == PlanState.CANCELLED
    first = Plan.objects.get(fulfillment_id=order.fulfillment_id, version=1)
    assert first.state == PlanState.SUPERSEDED
    assert Task.objects.get(plan=first, key="one@1").state == TaskState.SUCCEEDED


def test_what_was_not_sent_is_withdrawn_and_nothing_is_undone(systems: ScriptedSystems) -> None:
    diamond()
    order = desk.order()
    give_up(order)
    desk.finish()
    assert systems.actions() == []
    plan = desk.newest_plan_of(order)
    assert (plan.version, plan.state) == (1, PlanState.CANCELLED)
    assert set(desk.states_of(order).values()) == {TaskState.CANCELLED}


def test_a_task_that_has_failed_for_good_undoes_the_order_where_that_is_declared(
    systems: ScriptedSystems,
) -> None:
    diamond(on_failure="compensate")
    systems.sends["right"] = [desk.failed(retryable=False)]
    order = desk.order()
    desk.drain()
    assert rest.look() == 1
    desk.finish()
    assert systems.actions() == ["one", "left", "right", "undo_left", "undo_one"]
    assert desk.newest_plan_of(order).state == PlanState.FAILED


def test_a_failed_undo_has_a_case_and_leaves_the_other_branches_alone(
    systems: ScriptedSystems,
) -> None:
    diamond()
    systems.sends["last"] = [desk.failed(retryable=False)]
    systems.sends["undo_left"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    give_up(order)
    systems.sent.clear()
    desk.finish()
    assert sorted(systems.actions()) == ["undo_left", "undo_right"]
    plan = desk.newest_plan_of(order)
    assert plan.state == PlanState.COMPENSATING
    assert "undo.v2/left@1" in plan.blocked_reason
    (case,) = FalloutCase.objects.filter(state="OPEN", task__key="undo.v2/left@1")
    assert case.reason_code == "refused"


def test_an_undo_asks_with_what_its_task_has_returned(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(
                outputs={"number": "string"},
                compensation={
                    "action": "release",
                    "input": {"number": "${tasks.reserve.number}", "of": "${order.id}"},
                },
            ),
            "use": desk.task(after=["reserve"]),
        }
    )
    systems.sends["reserve"] = [desk.succeeded(number="R-7")]
    systems.sends["use"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    give_up(order)
    desk.finish()
    command = Command.objects.get(action="release")
    assert command.payload == {"number": "R-7", "of": order.reference}
    assert systems.actions().count("release") == 1


def test_what_is_under_way_is_settled_first(systems: ScriptedSystems) -> None:
    diamond()
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    found = give_up(order)
    assert found.in_flight == ("one@1",)
    assert desk.newest_plan_of(order).state == PlanState.RUNNING


def test_of_a_fan_out_every_element_is_undone(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "list": desk.task(outputs={"sites": "list"}),
            "build": desk.task(
                depends_on=[{"output": "list.sites"}],
                for_each={"over": "${tasks.list.sites}"},
                input={"site": "${element}"},
                compensation={"action": "tear_down", "input": {"site": "${element}"}},
            ),
            "last": desk.task(after=["build"]),
        }
    )
    systems.sends["list"] = [desk.succeeded(sites=["a", "b", "c"])]
    systems.sends["last"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    give_up(order)
    desk.finish()
    torn = [command.payload["site"] for command in systems.sent if command.action == "tear_down"]
    assert sorted(torn) == ["a", "b", "c"]
    assert desk.newest_plan_of(order).state == PlanState.CANCELLED


def test_an_irreversible_task_that_is_done_refuses(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "ship": desk.task(irreversible=True),
            "last": desk.task(after=["ship"]),
        }
    )
    systems.sends["last"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    found = give_up(order)
    (refusal,) = found.refusals
    assert (refusal.code, refusal.task, refusal.items) == ("irreversible", "ship@1", (1,))
