"""A plan is given up: what has been done is undone, in the reverse order, each once (§14)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapters.contract import Command as ToTarget
from adapters.contract import Outcome
from fulfillment import operations
from fulfillment.definitions.assessment import Assessment, Becomes
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import rest, undoing, withholding
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NothingToHold
from fulfillment.models import (
    Command,
    FalloutCase,
    Hold,
    HoldScope,
    ManualTask,
    Plan,
    Task,
    Transition,
)
from fulfillment.states import PlanState, TaskState
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

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


def test_a_failure_may_name_what_is_undone_for_it(systems: ScriptedSystems) -> None:
    diamond()
    systems.sends["right"] = [replace(desk.rejected(), compensate=("left",))]
    order = desk.order()
    desk.drain()
    rest.look()
    desk.finish()
    assert systems.actions() == ["one", "left", "right", "undo_left"]
    assert desk.newest_plan_of(order).state == PlanState.FAILED


def test_an_undo_that_needs_approval_waits_for_it(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    approval = {"queue": "finance", "role": "clerk", "within": "PT1H"}
    desk.workflow(
        {
            "pay": desk.task(compensation=undone_by("refund", approval=approval)),
            "last": desk.task(after=["pay"]),
        }
    )
    systems.sends["last"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    give_up(order)
    desk.finish()
    assert "refund" not in systems.actions()
    asked = ManualTask.objects.get(state="OPEN")
    assert (asked.queue, asked.role) == ("finance", "clerk")
    operations.decide(
        manual_id=asked.pk, outcome="undo_it", values={}, reason="agreed", actor=by("a clerk")
    )
    desk.finish()
    assert systems.actions()[-1] == "refund"
    assert desk.newest_plan_of(order).state == PlanState.CANCELLED


def test_an_approval_that_times_out_undoes_the_order(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(compensation=undone_by("release")),
            "agree": desk.step(
                after=["reserve"],
                manual={
                    "queue": "sales",
                    "role": "manager",
                    "instructions": "Agree, or do not.",
                    "outcomes": {"yes": "proceed", "no": "undo"},
                    "within": "PT1H",
                    "otherwise": "no",
                },
            ),
            "ship": desk.task(after=["agree"]),
        }
    )
    order = desk.order()
    desk.finish()
    desk.advance(3700)
    sweeping.sweep()
    rest.look()
    desk.finish()
    assert systems.actions() == ["reserve", "release"]
    assert desk.newest_plan_of(order).state == PlanState.FAILED


def test_a_wait_that_ends_without_its_report_may_undo_the_order(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    wait = {"signal": "paid", "key": "${order.id}", "within": "PT1H", "otherwise": "undo"}
    desk.workflow(
        {
            "reserve": desk.task(compensation=undone_by("release")),
            "paid": desk.step(after=["reserve"], wait=wait),
            "ship": desk.task(after=["paid"]),
        }
    )
    order = desk.order()
    desk.finish()
    desk.advance(3700)
    sweeping.sweep()
    rest.look()
    desk.finish()
    assert systems.actions() == ["reserve", "release"]
    assert desk.newest_plan_of(order).state == PlanState.FAILED


def test_what_was_held_back_goes_on_when_nothing_changes(systems: ScriptedSystems) -> None:
    diamond()
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    give_up(order)
    task = desk.tasks_of(order)["one@1"]
    systems.queries["one"] = [desk.succeeded()]
    desk.advance(400)
    sweeping.sweep()
    desk.finish()
    assert desk.tasks_of(order)["one@1"].state == TaskState.SUCCEEDED
    assert systems.actions() == ["one"]  # What follows is held back.
    assert desk.tasks_of(order)["left@1"].held_by is not None

    def go_on(unit: Unit) -> None:
        unit.adopt_plans(plans_by_id(unit.raw, [task.plan_id]))
        withholding.let_go_on(unit, plan=unit.plans[task.plan_id], reason="not today")

    run_unit(go_on, fulfillment_ids=[order.fulfillment_id], actor="a test")
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def test_a_send_that_may_have_happened_is_found_out_before_anything_is_undone(
    systems: ScriptedSystems,
) -> None:
    """At a target that can't be asked the same key is sent again, and nothing else is."""
    diamond()
    desk.target("alpha", status_query=False)
    order = desk.order()
    desk.claim()
    (task,) = Task.objects.filter(key="one@1")
    assert task.state == TaskState.DISPATCHED
    sweep_lost_lease()
    assert give_up(order).in_flight == ("one@1",)
    desk.advance(120)
    desk.finish()
    assert systems.actions()[:1] == ["one"]
    rest.look()
    give_up(order)
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.CANCELLED
    assert systems.actions()[-1] == "undo_one"
    assert "left" not in systems.actions()


def sweep_lost_lease() -> None:
    desk.advance(60)
    sweeping.sweep()


def guarded(**more: Any) -> None:
    """check → pay → ship, where pay goes on without check when the order says so."""
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "check": desk.task("beta"),
            "pay": desk.task(
                depends_on=[{"success": "check", "when": "item.quantity > 1"}],
                compensation=undone_by("refund"),
            ),
            "ship": desk.task(after=["pay"], irreversible=True, **more),
        }
    )


def test_irreversible_guarded(systems: ScriptedSystems) -> None:
    """Everything required before it is done, on whatever way; then its cancellation is closed."""
    guarded()
    order = desk.order()
    desk.drain(["alpha"])
    assert systems.actions() == ["pay"]
    assert desk.tasks_of(order)["ship@1"].state == TaskState.PENDING
    desk.drain()
    assert systems.actions() == ["pay", "check", "ship"]
    closed = Transition.objects.get(name="close_cancellation")
    assert closed.entity_id == str(desk.tasks_of(order)["ship@1"].pk)


def test_what_can_not_be_taken_back_waits_while_its_order_may_be_cancelled(
    systems: ScriptedSystems,
) -> None:
    final = {"kind": "hard", "reason": "It is on its way.", "window": "PT30M"}
    guarded(point_of_no_return=final)
    order = desk.order()
    desk.finish()
    assert "ship" not in systems.actions()
    found = give_up(order)
    assert not found.refusals
    desk.finish()
    assert systems.actions()[-1] == "refund"


def test_when_its_window_is_over_it_is_sent(systems: ScriptedSystems) -> None:
    final = {"kind": "hard", "reason": "It is on its way.", "window": "PT30M"}
    guarded(point_of_no_return=final)
    order = desk.order()
    desk.finish()
    desk.advance(1900)
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def two_items(**more: Any) -> Order:
    """reserve → build for each of two items, and one message for both."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(compensation=undone_by("release")),
            "build": desk.task(after=["reserve"], compensation=undone_by("tear_down")),
            "finish": desk.task(after=["build"]),
            "tell": desk.task(after=["finish"], scope="order"),
        },
        **more,
    )
    return desk.order(desk.item(), desk.item(item_id="2"))


def fail_for(order: Order, systems: ScriptedSystems, action: str, *, position: int) -> None:
    """The target refuses it for one of the items."""

    def answer(command: ToTarget) -> Outcome:
        key = Task.objects.get(commands__pk=command.command_id).key
        return desk.rejected() if key.endswith(f"@{position}") else desk.succeeded()

    systems.sends[action] = [answer, answer]


def test_the_item_that_has_failed_is_undone_and_the_others_go_on(
    systems: ScriptedSystems,
) -> None:
    order = two_items(on_failure={"then": "compensate", "of": "item"})
    fail_for(order, systems, "build", position=2)
    desk.drain()
    rest.look()
    desk.finish()
    plan = desk.newest_plan_of(order)
    assert plan.state == PlanState.COMPLETED
    assert plan.context["given_up"] == [2]
    done = [action for action in systems.actions() if action in ("release", "finish", "tell")]
    assert sorted(done) == ["finish", "release", "tell"]
    order.refresh_from_db()
    assert order.state == "PARTIALLY_COMPLETED"


def test_when_every_item_has_failed_the_order_has(systems: ScriptedSystems) -> None:
    order = two_items(on_failure={"then": "compensate", "of": "item"})
    systems.sends["build"] = [desk.rejected(), desk.rejected()]
    desk.drain()
    rest.look()
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.FAILED
    assert systems.actions().count("release") == 2


def test_an_order_may_go_on_with_what_does_not_need_what_has_failed(
    systems: ScriptedSystems,
) -> None:
    order = two_items(on_failure={"then": "continue", "of": "item"})
    fail_for(order, systems, "build", position=1)
    desk.drain()
    rest.look()
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED
    assert "release" not in systems.actions()
    assert systems.actions().count("finish") == 1
    order.refresh_from_db()
    assert order.state == "PARTIALLY_COMPLETED"


def test_nobody_places_the_hold_of_a_change_by_hand(systems: ScriptedSystems) -> None:
    diamond()
    order = desk.order()
    plan = desk.newest_plan_of(order)
    with pytest.raises(NothingToHold):
        operations.place_hold(
            scope=HoldScope.CHANGE, name=str(plan.pk), reason="to try it", actor=by("an operator")
        )
    assert not Hold.objects.exists()
