"""The order of a running plan changes: kept, redone, undone and new tasks (§20)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.definitions.assessment import Assessment, Becomes
from fulfillment.definitions.concern import ChangeKind
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.plans import rest, undoing, withholding
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.store import graphs
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Command, ManualTask, Plan
from fulfillment.publishing import publish
from fulfillment.states import PlanState
from oms.intake import workflows
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db


def two_steps(**more: Any) -> None:
    """reserve → build → notify, for each item; what is asked for follows the characteristics."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(
                input={"size": "${item.characteristics.size}"},
                outputs={"number": "string"},
                compensation={"action": "release", "input": {"n": "${tasks.reserve.number}"}},
                **more.get("reserve", {}),
            ),
            "build": desk.task(
                depends_on=[{"output": "reserve.number"}],
                input={"n": "${tasks.reserve.number}", "name": "${item.characteristics.name}"},
                compensation={"action": "tear_down", "input": {}},
                **more.get("build", {}),
            ),
            "last": desk.task(after=["build"], input={"q": "${item.quantity}"}),
        }
    )


def an_order(systems: ScriptedSystems, **characteristics: Any) -> Order:
    """Reserved and built; the last task can't be done yet."""
    systems.sends["reserve"] = [desk.succeeded(number=f"R-{n}") for n in range(1, 9)]
    systems.sends["last"] = [desk.failed(retry_after=timedelta(seconds=30))]
    order = desk.order(desk.item(characteristics={"size": 1, "name": "a", **characteristics}))
    desk.drain()
    return order


def revised(
    order: Order,
    items: Mapping[int, Mapping[str, Any]],
    *,
    changed: Mapping[int, Collection[ChangeKind]],
    anew: bool = False,
) -> Wanted:
    plan = desk.newest_plan_of(order)
    context = plan.context
    first = Plan.objects.get(fulfillment_id=order.fulfillment_id, version=1)
    graph = graphs.by_id(first.graph_id)
    known = context["items"]["1"]
    return Wanted(
        graph=graph,
        context={
            "order": {**context["order"], "version": plan.order_version + 1},
            "items": {str(at): {**known, **more} for at, more in items.items()},
        },
        order_version=plan.order_version + 1,
        changed=changed,
        anew=anew,
    )


def change(order: Order, wanted: Wanted) -> Assessment:
    plan_id = desk.newest_plan_of(order).pk

    def work(unit: Unit) -> Assessment:
        unit.adopt_plans(plans_by_id(unit.raw, [plan_id]))
        plan = unit.plans[plan_id]
        found = undoing.assess(unit, plan=plan, wanted=wanted)
        if found.refusals:
            return found
        if found.is_at_rest:
            undoing.carry_out(
                unit, plan=plan, wanted=wanted, assessment=found, reason="a revised order"
            )
        else:
            withholding.await_rest(unit, plan=plan, reason="a revised order")
        return found

    return run_unit(work, fulfillment_ids=[order.fulfillment_id], actor="a test")


def fates(found: Assessment) -> dict[str, Becomes]:
    return {fate.key: fate.becomes for fate in found.fates}


def test_what_the_change_does_not_concern_is_kept_with_its_outputs(
    systems: ScriptedSystems,
) -> None:
    two_steps()
    order = an_order(systems)
    wanted = revised(
        order,
        {1: {"characteristics": {"size": 1, "name": "b"}}},
        changed={1: {ChangeKind.CHARACTERISTICS}},
    )
    found = change(order, wanted)
    assert fates(found) == {
        "reserve@1": Becomes.KEPT,
        "build@1": Becomes.REDONE,
        "last@1": Becomes.REDONE,  # Not sent yet: it waits for that again.
    }
    systems.sent.clear()
    desk.advance(60)
    desk.finish()
    assert systems.actions().index("tear_down") < systems.actions().index("build")
    assert systems.actions().index("build") < systems.actions().index("last")
    (again,) = [command for command in systems.sent if command.action == "build"]
    assert again.payload == {"n": "R-1", "name": "b"}
    plan = desk.newest_plan_of(order)
    assert (plan.version, plan.order_version, plan.state) == (2, 2, PlanState.COMPLETED)
    keys = set(Command.objects.filter(action="build").values_list("idempotency_key", flat=True))
    assert len(keys) == 2


def test_what_has_used_a_value_that_is_made_anew_is_done_again(systems: ScriptedSystems) -> None:
    two_steps()
    order = an_order(systems)
    wanted = revised(
        order,
        {1: {"characteristics": {"size": 2, "name": "a"}}},
        changed={1: {ChangeKind.CHARACTERISTICS}},
    )
    found = change(order, wanted)
    assert fates(found)["reserve@1"] is Becomes.REDONE
    assert fates(found)["build@1"] is Becomes.REDONE
    systems.sent.clear()
    desk.advance(60)
    desk.finish()
    order_of = [one for one in systems.actions() if one != "last"]
    assert order_of == ["tear_down", "release", "reserve", "build"]
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def test_a_task_says_itself_which_changes_concern_it(systems: ScriptedSystems) -> None:
    two_steps(reserve={"affected_by": ["quantity"]}, build={"affected_by": []})
    order = an_order(systems)
    sizes = {1: {"characteristics": {"size": 2, "name": "b"}}}
    found = change(order, revised(order, sizes, changed={1: {ChangeKind.CHARACTERISTICS}}))
    assert set(fates(found).values()) == {Becomes.KEPT}
    found = change(order, revised(order, {1: {"quantity": 3}}, changed={1: {ChangeKind.QUANTITY}}))
    assert fates(found)["reserve@1"] is Becomes.REDONE


def test_what_waits_to_be_sent_is_written_anew(systems: ScriptedSystems) -> None:
    two_steps()
    order = an_order(systems)
    change(order, revised(order, {1: {"quantity": 3}}, changed={1: {ChangeKind.QUANTITY}}))
    systems.sent.clear()
    desk.advance(60)
    desk.finish()
    (last,) = systems.sent
    assert (last.action, last.payload) == ("last", {"q": 3})
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def test_recreated_everything_is_undone_and_done_again(systems: ScriptedSystems) -> None:
    two_steps()
    order = an_order(systems)
    wanted = revised(order, {1: {}}, changed={}, anew=True)
    change(order, wanted)
    systems.sent.clear()
    desk.advance(60)
    desk.finish()
    assert systems.actions() == ["tear_down", "release", "reserve", "build", "last"]


def test_what_is_being_undone_is_undone_to_its_end_when_the_plan_changes_again(
    systems: ScriptedSystems,
) -> None:
    two_steps()
    order = an_order(systems)
    change(order, revised(order, {1: {}}, changed={}, anew=True))
    (claimed,) = desk.claim()
    assert claimed.command.action == "tear_down"
    systems.sent.clear()
    again = revised(order, {1: {"quantity": 5}}, changed={1: {ChangeKind.QUANTITY}})
    assert not change(order, again).refusals
    desk.settle_call(claimed, desk.succeeded())
    desk.advance(60)
    desk.finish()
    assert systems.actions() == ["release", "reserve", "build", "last"]
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED
    assert Plan.objects.filter(fulfillment_id=order.fulfillment_id).count() == 3


def test_elements_that_are_done_again_wait_for_their_undo_whatever_changes_meanwhile(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "reserve": desk.task(
                for_each={"over": "${item.characteristics.sites}"},
                input={"site": "${element}"},
                compensation={"action": "release", "target": "beta", "input": {}},
            ),
            "last": desk.task(after=["reserve"], input={"q": "${item.quantity}"}),
        }
    )
    systems.sends["last"] = [desk.failed(retry_after=None)]
    order = desk.order(desk.item(characteristics={"sites": ["a", "b"]}))
    desk.drain()
    change(order, revised(order, {1: {}}, changed={}, anew=True))
    again = revised(order, {1: {"quantity": 5}}, changed={1: {ChangeKind.QUANTITY}})
    assert not change(order, again).refusals
    systems.sent.clear()
    desk.drain(["alpha"])
    assert systems.actions() == []
    desk.drain(["beta"])
    assert systems.actions() == ["release", "release"]
    desk.finish()
    assert systems.actions() == ["release", "release", "reserve", "reserve", "last"]


def test_something_concerned_that_is_under_way_is_awaited(systems: ScriptedSystems) -> None:
    two_steps()
    systems.sends["reserve"] = [desk.accepted()]
    order = desk.order(desk.item(characteristics={"size": 1, "name": "a"}))
    desk.drain()
    sizes = {1: {"characteristics": {"size": 2, "name": "a"}}}
    found = change(order, revised(order, sizes, changed={1: {ChangeKind.CHARACTERISTICS}}))
    assert found.in_flight == ("reserve@1",)


def test_an_item_past_its_point_of_no_return_can_not_be_changed(
    systems: ScriptedSystems,
) -> None:
    two_steps(build={"point_of_no_return": {"kind": "hard", "reason": "The concrete has set."}})
    order = an_order(systems)
    sizes = {1: {"characteristics": {"size": 2, "name": "a"}}}
    found = change(order, revised(order, sizes, changed={1: {ChangeKind.CHARACTERISTICS}}))
    (refusal,) = found.refusals
    assert (refusal.code, refusal.task) == ("point_of_no_return", "build@1")
    assert "The concrete has set." in refusal.message


def sizes(order: Order, size: Any, **more: Any) -> Wanted:
    """The same order with other characteristics of its item."""
    characteristics = {"size": size, "name": "a", **more}
    return revised(
        order,
        {1: {"characteristics": characteristics}},
        changed={1: {ChangeKind.CHARACTERISTICS}},
    )


def test_what_a_sub_process_was_given_is_new_to_its_tasks(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    publish(
        definition=WorkflowDefinition.model_validate(
            {
                "workflow": "part",
                "version": 1,
                "title": "A part",
                "subprocess": {"inputs": {"size": "integer"}},
                "tasks": {
                    "inner": desk.task(action="inner", input={"size": "${inputs.size}"}),
                    "other": desk.task(action="other"),
                },
            }
        ),
        published_by="a test",
    )
    use = desk.step(use="part", input={"size": "${item.characteristics.size}"})
    desk.workflow({"use": use, "last": desk.task(after=["use"])})
    systems.sends["last"] = [desk.failed()]
    order = desk.order(desk.item(characteristics={"size": 1}))
    desk.drain()
    change(order, sizes(order, 2))
    systems.sent.clear()
    desk.advance(60)
    desk.finish()
    assert sorted(systems.actions()) == ["inner", "last"]
    assert systems.sent[0].payload == {"size": 2}


def fanned_out() -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "build": desk.task(
                for_each={"over": "${item.characteristics.size}"},
                input={"site": "${element}"},
                compensation={"action": "tear_down", "input": {"site": "${element}"}},
            ),
            "last": desk.task(after=["build"]),
        }
    )


def test_other_elements_take_the_places_of_those_that_had_not_begun(
    systems: ScriptedSystems,
) -> None:
    sub = {"workflow": "site", "version": 1, "title": "A site", "subprocess": {}}
    tasks = {
        "first": desk.task(action="first", compensation={"action": "undo_first", "input": {}}),
        "second": desk.task(action="second", after=["first"]),
    }
    desk.target("alpha")
    publish(
        definition=WorkflowDefinition.model_validate({**sub, "tasks": tasks}),
        published_by="a test",
    )
    each = {"over": "${item.characteristics.size}", "at_once": 3}
    desk.workflow({"use": desk.step(use="site", for_each=each)})
    systems.sends["second"] = [desk.failed(), desk.failed()]
    order = desk.order(desk.item(characteristics={"size": ["a", "b"]}))
    desk.drain()
    change(order, sizes(order, ["c", "d", "e"]))
    desk.advance(60)
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED
    assert systems.actions().count("undo_first") == 2
    assert systems.actions().count("second") == 5


def test_elements_begin_anew_behind_the_undo_of_an_earlier_change(
    systems: ScriptedSystems,
) -> None:
    fanned_out()
    systems.sends["last"] = [desk.failed(retry_after=timedelta(minutes=1))]
    order = desk.order(desk.item(characteristics={"size": ["a", "b"]}))
    desk.drain()
    change(order, sizes(order, ["c"]))
    change(order, sizes(order, ["d"]))
    systems.sent.clear()
    systems.sends["tear_down"] = [desk.failed(retry_after=timedelta(seconds=30))]
    desk.finish()
    assert systems.actions() == ["tear_down", "tear_down"]
    desk.advance(60)
    desk.finish()
    (built,) = [command.payload for command in systems.sent if command.action == "build"]
    assert built == {"site": "d"}


def test_what_is_undone_of_an_item_that_has_gone_may_need_somebody_to_agree(
    systems: ScriptedSystems,
) -> None:
    asked = {"queue": "desk", "role": "clerk", "within": "PT1H"}
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(
                compensation={"action": "release", "input": {}, "approval": asked}
            ),
            "last": desk.task(after=["reserve"]),
        }
    )
    systems.sends["last"] = [desk.failed(), desk.failed()]
    order = desk.order(desk.item(), desk.item(item_id="2"))
    desk.drain()
    wanted = replace(revised(order, {1: {}}, changed={0: {ChangeKind.ITEMS}}), graph=of_one_item())
    assert not change(order, wanted).refusals
    (manual,) = ManualTask.objects.filter(state="OPEN")
    operations.decide(manual_id=manual.pk, outcome="undo_it", actor=by("ann"), reason="Agreed.")
    desk.advance(60)
    desk.finish()
    assert systems.actions().count("release") == 1
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def of_one_item() -> Graph:
    selector = workflows.newest_versions(offerings=["thing"])["thing", "add"]
    return workflows.graph_for(((1, "thing", "add", selector),))


def test_what_waits_and_would_be_left_out_now_is(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "rest": desk.step(wait={"delay": "PT1H"}, only_if="item.characteristics.size > 1"),
            "last": desk.task(after=["rest"]),
        }
    )
    order = desk.order(desk.item(characteristics={"size": 2}))
    desk.drain()
    change(order, sizes(order, 1))
    desk.finish()
    assert systems.actions() == ["last"]
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def test_a_change_may_mend_what_a_precondition_has_stopped(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    check = {"check": "item.characteristics.size > 1", "message": "Too small."}
    desk.workflow({"build": desk.task(preconditions=[check])})
    order = desk.order(desk.item(characteristics={"size": 1}))
    desk.finish()
    assert desk.newest_plan_of(order).state == PlanState.BLOCKED
    change(order, sizes(order, 2))
    desk.finish()
    assert systems.actions() == ["build"]
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def test_what_has_failed_is_given_up_although_the_order_has_changed_meanwhile(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(compensation={"action": "release", "input": {}}),
            "build": desk.task(after=["reserve"]),
            "last": desk.task(after=["build"], input={"q": "${item.quantity}"}),
        },
        on_failure="compensate",
    )
    systems.sends["build"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    change(order, revised(order, {1: {"quantity": 3}}, changed={1: {ChangeKind.QUANTITY}}))
    rest.look()
    desk.finish()
    assert systems.actions() == ["reserve", "build", "release"]
    assert desk.newest_plan_of(order).state == PlanState.FAILED


def test_a_change_that_mends_what_has_failed_keeps_the_order(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(compensation={"action": "release", "input": {}}),
            "build": desk.task(after=["reserve"], input={"q": "${item.quantity}"}),
        },
        on_failure="compensate",
    )
    systems.sends["build"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    change(order, revised(order, {1: {"quantity": 3}}, changed={1: {ChangeKind.QUANTITY}}))
    rest.look()
    desk.finish()
    assert systems.actions() == ["reserve", "build", "build"]
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def test_another_way_is_concerned_by_what_it_has_asked_for(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    other = {"target": "alpha", "action": "other", "input": {"q": "${item.quantity}"}}
    desk.workflow(
        {
            "build": desk.task(fallback=[other]),
            "last": desk.task(after=["build"]),
        }
    )
    systems.sends["build"] = [desk.rejected()]
    systems.sends["last"] = [desk.failed(retry_after=timedelta(seconds=30))]
    order = desk.order()
    desk.drain()
    found = change(order, revised(order, {1: {"quantity": 3}}, changed={1: {ChangeKind.QUANTITY}}))
    assert fates(found)["build@1"] is Becomes.REDONE


def test_what_waits_for_the_whole_order_does_not_keep_an_item_from_going(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    paid = {"milestone": "paid", "within": "PT10H", "otherwise": "escalate"}
    desk.workflow(
        {
            "build": desk.task(compensation={"action": "tear_down", "input": {}}),
            "bill": desk.step(scope="order", wait=paid),
        }
    )
    order = desk.order(desk.item(), desk.item(item_id="2"))
    desk.drain()
    wanted = replace(revised(order, {1: {}}, changed={0: {ChangeKind.ITEMS}}), graph=of_one_item())
    found = change(order, wanted)
    assert found.is_at_rest
    assert fates(found)["thing/bill"] is Becomes.KEPT
    desk.finish()
    assert systems.actions().count("tear_down") == 1


def test_what_a_skipped_decision_might_have_chosen_is_not_waited_for(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "choose": desk.step(decide=[{"otherwise": ["extra"]}], only_if="item.quantity > 9"),
            "extra": desk.task(),
            "last": desk.task(input={"size": "${item.characteristics.size}"}),
        }
    )
    order = desk.order(desk.item(characteristics={"size": 1}))
    change(order, sizes(order, 2))
    desk.finish()
    assert systems.actions() == ["last"]
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED


def test_a_sub_process_that_is_left_out_now_is_undone_as_a_whole(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    part = {"workflow": "part", "version": 1, "title": "A part", "subprocess": {}}
    undo = {"action": "tear_down", "input": {}}
    tasks = {"inner": desk.task(action="inner", compensation=undo, affected_by=["quantity"])}
    publish(
        definition=WorkflowDefinition.model_validate({**part, "tasks": tasks}),
        published_by="a test",
    )
    use = desk.step(use="part", only_if="item.characteristics.size > 1")
    desk.workflow({"use": use, "last": desk.task(after=["use"])})
    systems.sends["last"] = [desk.failed(retry_after=timedelta(seconds=30))]
    order = desk.order(desk.item(characteristics={"size": 2}))
    desk.drain()
    change(order, sizes(order, 1))
    more = revised(
        order,
        {1: {"characteristics": {"size": 1, "name": "a"}, "quantity": 2}},
        changed={1: {ChangeKind.QUANTITY}},
    )
    change(order, more)
    desk.advance(60)
    desk.finish()
    assert systems.actions().count("tear_down") == 1
    assert systems.actions().count("inner") == 1
    assert desk.newest_plan_of(order).state == PlanState.COMPLETED
