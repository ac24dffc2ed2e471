"""Fan-outs: one task, or one sub-process, per element of a list."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.work import audit
from fulfillment.errors import NothingToRetry
from fulfillment.models import Command, FalloutCase, FanOut, Task
from fulfillment.publishing import publish
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db


def etl(**each: Any) -> dict[str, Any]:
    return {
        "extract": desk.task(outputs={"parts": "list"}),
        "enrich": desk.task(
            depends_on=[{"output": "extract.parts"}],
            for_each={"over": "${tasks.extract.parts}", **each},
            input={"part": "${element}", "first": "${tasks.extract.parts.0}"},
            outputs={"rows": "integer"},
        ),
        "load": desk.task(
            depends_on=[
                {"output": "enrich.rows"},
                {"output": "enrich.succeeded"},
                {"output": "enrich.failed"},
            ],
            input={
                "rows": "${tasks.enrich.rows}",
                "good": "${tasks.enrich.succeeded}",
                "bad": "${tasks.enrich.failed}",
            },
        ),
    }


def start(systems: ScriptedSystems, parts: list[Any], **each: Any) -> Order:
    desk.target("alpha")
    desk.workflow(etl(**each))
    systems.sends["extract"] = [desk.succeeded(parts=parts)]
    return desk.order()


def sent(systems: ScriptedSystems, action: str) -> list[dict[str, Any]]:
    return [dict(command.payload) for command in systems.sent if command.action == action]


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "scanner"])
def test_each_element_has_a_task_and_the_join_gets_all_outputs_in_order(
    systems: ScriptedSystems, settings: Any, fast_path: bool
) -> None:
    settings.OMS_FAST_PATH = fast_path
    order = start(systems, ["a", "b", "c"], at_once=2)
    systems.sends["enrich"] = [desk.succeeded(rows=number) for number in (1, 2, 3)]
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert [one["part"] for one in sent(systems, "enrich")] == ["a", "b", "c"]
    assert sent(systems, "load") == [{"rows": [1, 2, 3], "good": 3, "bad": 0}]
    keys = {"extract@1", "enrich~each@1", "enrich@1", "load@1"}
    keys |= {f"enrich@1[{number}]" for number in (1, 2, 3)}
    assert set(desk.states_of(order)) == keys
    assert set(desk.states_of(order).values()) == {"SUCCEEDED"}
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_no_more_elements_are_under_way_than_may_be(systems: ScriptedSystems) -> None:
    order = start(systems, list(range(7)), at_once=3)
    desk.settle(desk.result(desk.claim()[0], desk.succeeded(parts=list(range(7)))))
    started = 3
    while claims := desk.claim(limit=50):
        assert len(claims) <= 3
        assert Task.objects.filter(element__gt=0).count() == started
        desk.settle(desk.result(claims[0], desk.succeeded(rows=1)))
        started = min(7, started + 1)
        rest = [desk.result(claim, desk.succeeded(rows=1)) for claim in claims[1:]]
        if rest:
            desk.settle(*rest)
            started = min(7, started + len(rest))
        if Task.objects.get(key="enrich@1").state == "SUCCEEDED":
            break
    assert started == 7
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_an_empty_list_is_joined_at_once(systems: ScriptedSystems) -> None:
    order = start(systems, [])
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert sent(systems, "load") == [{"rows": [], "good": 0, "bad": 0}]


def test_a_list_that_is_known_when_the_order_is_planned(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "port": desk.task(
                for_each={"over": "${item.characteristics.numbers}"}, input={"number": "${element}"}
            )
        }
    )
    order = desk.order(desk.item(characteristics={"numbers": ["1", "2"]}))
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert sorted(one["number"] for one in sent(systems, "port")) == ["1", "2"]


def test_what_is_no_list_goes_to_a_person(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"port": desk.task(for_each={"over": "${item.characteristics.numbers}"})})
    order = desk.order(desk.item(characteristics={"numbers": "12"}))
    assert desk.states_of(order)["port~each@1"] == "AWAITING_MANUAL"
    assert FalloutCase.objects.get().reason_code == "fulfillment.not_a_list"


def test_without_tolerance_the_first_failure_stops_it(systems: ScriptedSystems) -> None:
    order = start(systems, list("abcdef"), at_once=2)
    systems.sends["enrich"] = [desk.rejected(), desk.succeeded(rows=1)]
    desk.finish()
    states = desk.states_of(order)
    assert states["enrich@1"] == "FAILED_FINAL"
    assert states["load@1"] == "PENDING"
    assert len(sent(systems, "enrich")) == 2
    fan_out = FanOut.objects.get()
    assert (fan_out.started, fan_out.done, fan_out.failed) == (2, 1, [1])
    assert desk.plan_of(order).state == "BLOCKED"
    assert "1 of 6 elements failed" in desk.tasks_of(order)["enrich@1"].blocked_reason


def test_a_share_of_the_elements_may_fail(systems: ScriptedSystems) -> None:
    order = start(systems, list("abcd"), tolerate=0.25)
    outcomes = [desk.succeeded(rows=1), desk.rejected(), desk.succeeded(rows=3)]
    systems.sends["enrich"] = [*outcomes, desk.succeeded(rows=4)]
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert sent(systems, "load") == [{"rows": [1, 3, 4], "good": 3, "bad": 1}]


def test_more_than_the_share_fails_it(systems: ScriptedSystems) -> None:
    order = start(systems, list("abcd"), tolerate=0.25)
    good = [desk.succeeded(rows=3), desk.succeeded(rows=4)]
    systems.sends["enrich"] = [desk.rejected(), desk.rejected(), *good]
    desk.finish()
    assert desk.states_of(order)["enrich@1"] == "FAILED_FINAL"


def test_a_rerun_redoes_only_the_elements_that_failed(systems: ScriptedSystems) -> None:
    order = start(systems, list("abcd"), at_once=2)
    systems.sends["enrich"] = [desk.succeeded(rows=1), desk.rejected(), desk.succeeded(rows=3)]
    desk.finish()
    gather = desk.tasks_of(order)["enrich@1"]
    assert gather.state == "FAILED_FINAL"
    before = len(sent(systems, "enrich"))
    systems.sends["enrich"] = [desk.succeeded(rows=number) for number in (2, 4)]
    again = operations.retry(task_id=gather.pk, actor=by("ann"), reason="the file was mended")
    assert again == ["enrich@1[2]"]
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    parts = [one["part"] for one in sent(systems, "enrich")]
    assert parts[before:] == ["b", "d"]
    assert sent(systems, "load") == [{"rows": [1, 2, 3, 4], "good": 4, "bad": 0}]
    keys = list(
        Command.objects.filter(task__key="enrich@1[2]").values_list("idempotency_key", flat=True)
    )
    assert len(set(keys)) == 2
    assert not FalloutCase.objects.filter(state="OPEN").exists()
    with pytest.raises(NothingToRetry):
        operations.retry(task_id=gather.pk, actor=by("ann"), reason="again")


def test_an_optional_fan_out_that_fails_does_not_keep_the_order(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "main": desk.task(),
            "extra": desk.task(for_each={"over": "${item.characteristics.extras}"}, required=False),
            "behind": desk.task(after=["extra"], required=False),
        }
    )
    systems.sends["extra"] = [desk.rejected()]
    order = desk.order(desk.item(characteristics={"extras": [1, 2]}))
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert desk.states_of(order)["behind@1"] == "SKIPPED_BY_POLICY"


def test_elements_that_were_not_begun_follow_as_soon_as_the_failed_ones_are_tried_again(
    systems: ScriptedSystems,
) -> None:
    order = start(systems, list("abcd"), at_once=2)
    systems.sends["enrich"] = [desk.rejected(), desk.succeeded(rows=2)]
    desk.finish()
    failed = desk.tasks_of(order)["enrich@1[1]"]
    operations.retry(task_id=failed.pk, actor=by("ann"), reason="the file was mended")
    assert desk.states_of(order)["enrich@1[3]"] == "READY"
    assert "enrich@1[4]" not in desk.states_of(order)


def test_an_element_has_failed_until_all_that_it_needs_is_tried_again(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    publish(
        definition=WorkflowDefinition.model_validate(
            {
                "workflow": "pair",
                "version": 1,
                "title": "Two tasks",
                "subprocess": {},
                "tasks": {name: desk.task(action=name) for name in ("left", "right")},
            }
        ),
        published_by="a test",
    )
    desk.workflow(
        {"each": desk.step(use="pair", for_each={"over": "${item.characteristics.list}"})}
    )
    systems.sends["left"] = [desk.rejected()]
    systems.sends["right"] = [desk.rejected()]
    order = desk.order(desk.item(characteristics={"list": [1]}))
    desk.finish()
    assert desk.states_of(order)["each@1"] == "FAILED_FINAL"
    for name in ("left", "right"):
        task = desk.tasks_of(order)[f"each/{name}@1[1]"]
        operations.retry(task_id=task.pk, actor=by("ann"), reason="mended")
        desk.finish()
        assert desk.states_of(order)["each@1"] == (
            "FAILED_FINAL" if name == "left" else "SUCCEEDED"
        )
