"""Outputs that expire: nothing is sent with a value that is of no use any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.plans import scanning
from fulfillment.engine.work import audit
from fulfillment.errors import DefinitionInvalid
from fulfillment.models import Command, Disposition, FalloutCase, Task, Transition
from fulfillment.queries import fulfillments
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def reservation(expired: str | None, **pay: Any) -> dict[str, Any]:
    uses: dict[str, Any] = {"output": "reserve.slot"}
    if expired is not None:
        uses["expired"] = expired
    return {
        "reserve": desk.task(
            outputs={"slot": {"type": "string", "valid_until": "until"}, "until": "string"}
        ),
        "pay": desk.task("beta", **pay),
        "ship": desk.task(
            "gamma",
            after=["pay"],
            depends_on=[uses],
            input={"slot": "${tasks.reserve.slot}"},
            outputs={"parcel": "string"},
        ),
    }


def reserved(slot: str, *, seconds: float) -> Any:
    def answer(_: Any) -> Any:
        until = desk.now() + timedelta(seconds=seconds)
        return desk.succeeded(slot=slot, until=until.isoformat())

    return answer


def start(systems: ScriptedSystems, expired: str | None, *answers: Any, **more: Any) -> Order:
    for name in ("alpha", "beta", "gamma"):
        desk.target(name)
    desk.workflow(reservation(expired), **more)
    systems.sends["reserve"] = list(answers)
    systems.sends["ship"] = [desk.succeeded(parcel="P")]
    return desk.order()


def shipped(systems: ScriptedSystems) -> list[dict[str, Any]]:
    return [dict(one.payload) for one in systems.sent if one.action == "ship"]


@pytest.mark.parametrize("expired", [None, "case", "reobtain"])
def test_what_is_still_valid_is_used(systems: ScriptedSystems, expired: str | None) -> None:
    order = start(systems, expired, reserved("A", seconds=60))
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert shipped(systems) == [{"slot": "A"}]


@pytest.mark.parametrize("expired", [None, "case"])
def test_a_person_is_told_of_what_has_expired_when_its_user_begins(
    systems: ScriptedSystems, clock: Clock, expired: str | None
) -> None:
    order = start(systems, expired, reserved("A", seconds=60))
    desk.drain(["alpha"])
    until = Task.objects.get(key="reserve@1").outputs["until"]
    clock(61)
    desk.drain()
    assert desk.states_of(order)["ship@1"] == "AWAITING_MANUAL"
    assert desk.plan_of(order).state == "BLOCKED"
    case = FalloutCase.objects.get()
    assert (case.reason_code, case.category) == ("output_expired", "DATA")
    assert case.facts["expired"] == [{"task": "reserve@1", "output": "slot", "until": until}]
    assert "slot of reserve@1 could be used until" in case.explanation
    assert shipped(systems) == []
    assert not Command.objects.filter(action="ship").exists()


def test_a_command_whose_value_expires_before_it_is_claimed_is_not_sent(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = start(systems, "case", reserved("A", seconds=60))
    desk.drain(["alpha", "beta"])
    assert desk.states_of(order)["ship@1"] == "READY"
    clock(61)
    assert desk.claim("gamma") == []
    assert desk.states_of(order)["ship@1"] == "AWAITING_MANUAL"
    assert desk.plan_of(order).state == "BLOCKED"
    assert FalloutCase.objects.get().reason_code == "output_expired"


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "scanner"])
def test_what_has_expired_is_obtained_anew_before_its_user_begins(
    systems: ScriptedSystems, clock: Clock, settings: Any, fast_path: bool
) -> None:
    settings.OMS_FAST_PATH = fast_path
    order = start(systems, "reobtain", reserved("A", seconds=60), reserved("B", seconds=60))
    scanning.scan()
    desk.drain(["alpha"])
    clock(61)
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.actions() == ["reserve", "pay", "reserve", "ship"]
    assert shipped(systems) == [{"slot": "B"}]
    keys = Command.objects.filter(action="reserve").values_list("idempotency_key", flat=True)
    assert len(set(keys)) == 2
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    plan = desk.plan_of(order)
    assert (plan.tasks_open, plan.mandatory_open, plan.moving) == (0, 0, 0)


def test_what_had_been_obtained_before_keeps_its_row_and_its_history(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = start(systems, "reobtain", reserved("A", seconds=60), reserved("B", seconds=60))
    desk.drain(["alpha"])
    (before,) = Task.objects.filter(key="reserve@1").values()
    clock(61)
    desk.drain()
    old, new = Task.objects.filter(key="reserve@1").order_by("-round").values()
    assert old == {**before, "round": 1}
    assert (new["state"], new["round"], new["outputs"]["slot"]) == ("SUCCEEDED", 0, "B")
    row = Transition.objects.get(name="expire")
    assert (row.from_state, row.to_state) == ("SUCCEEDED", "SUCCEEDED")
    assert "ship@1 needs it: slot of reserve@1 could be used until" in row.cause
    assert desk.tasks_of(order)["reserve@1"].pk == new["id"]
    document = fulfillments.graph_document(plan=desk.plan_of(order))
    assert [node["outputs"] for node in document["nodes"] if node["task"] == "reserve@1"] == [
        new["outputs"]
    ]


def test_a_command_that_was_not_sent_yet_is_made_anew_with_the_fresh_value(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = start(systems, "reobtain", reserved("A", seconds=60), reserved("B", seconds=60))
    desk.drain(["alpha", "beta"])
    clock(61)
    assert desk.claim("gamma") == []
    assert desk.states_of(order) == {
        "reserve@1": "READY",
        "pay@1": "SUCCEEDED",
        "ship@1": "PENDING",
    }
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert shipped(systems) == [{"slot": "B"}]
    assert Command.objects.filter(action="ship").count() == 2


def test_a_retry_without_effect_takes_the_fresh_value(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = start(systems, "reobtain", reserved("A", seconds=60), reserved("B", seconds=600))
    systems.sends["ship"] = [desk.failed(), desk.succeeded(parcel="P")]
    desk.drain()
    clock(90)
    desk.finish()
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert shipped(systems) == [{"slot": "A"}, {"slot": "B"}]


@pytest.mark.parametrize("queryable", [True, False])
def test_after_a_lost_answer_a_person_decides(
    systems: ScriptedSystems, clock: Clock, queryable: bool
) -> None:
    order = start(systems, "reobtain", reserved("A", seconds=60), reserved("B", seconds=600))
    desk.target("gamma", status_query=queryable, reconcile_after=timedelta(seconds=80))
    systems.sends["ship"] = [desk.unknown()]
    systems.queries["ship"] = [desk.not_found()]
    desk.drain()
    for _ in range(2):
        clock(90)
        desk.drain()
    assert len(systems.queried) == int(queryable)
    assert len(shipped(systems)) == 1
    assert desk.states_of(order)["ship@1"] == "AWAITING_MANUAL"
    assert desk.states_of(order)["reserve@1"] == "SUCCEEDED"


def test_what_is_always_out_of_date_ends_with_a_person(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = start(systems, "reobtain", *[reserved("A", seconds=-1)] * 20)
    desk.drain()
    assert systems.actions().count("reserve") == 6
    assert desk.states_of(order)["ship@1"] == "AWAITING_MANUAL"
    assert "It has been obtained anew 5 times." in FalloutCase.objects.get().explanation


def test_a_late_report_on_what_has_expired_is_no_contradiction(
    systems: ScriptedSystems, clock: Clock
) -> None:
    start(systems, "reobtain", reserved("A", seconds=60), reserved("B", seconds=600))
    desk.drain(["alpha"])
    first = Command.objects.get(action="reserve")
    clock(61)
    desk.drain()
    receipt = callbacks.receive(
        report=callbacks.Report(
            source="alpha",
            event_id="late",
            idempotency_key=first.idempotency_key,
            outcome=desk.succeeded(slot="A", until="2020-01-01T00:00:00Z"),
            body={},
        )
    )
    assert receipt.disposition is Disposition.REDUNDANT
    assert Task.objects.get(key="reserve@1", round=0).outputs["slot"] == "B"
    assert not FalloutCase.objects.exists()


def test_an_end_that_is_no_instant_is_found_when_it_arrives(systems: ScriptedSystems) -> None:
    order = start(systems, None, desk.succeeded(slot="A", until="tomorrow"))
    desk.drain()
    assert desk.states_of(order)["reserve@1"] == "AWAITING_MANUAL"
    case = FalloutCase.objects.get()
    assert case.reason_code == "outputs_unusable"
    assert "'until' should be an instant" in case.explanation


def test_a_milestone_is_told_once_however_often_its_task_is_asked(
    systems: ScriptedSystems, clock: Clock
) -> None:
    order = start(
        systems,
        "reobtain",
        reserved("A", seconds=60),
        reserved("B", seconds=600),
        milestones={"held": {"title": "Reserved", "reached_by": "reserve", "shared": True}},
    )
    desk.drain(["alpha"])
    clock(61)
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert order.milestones.count() == 1


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        (
            {
                **reservation(None),
                "extra": desk.task(depends_on=[{"output": "reserve.until", "expired": "case"}]),
            },
            "definition.never_expires",
        ),
        (
            {
                **reservation("reobtain"),
                "reserve": {**reservation(None)["reserve"], "irreversible": True},
            },
            "definition.not_obtained_twice",
        ),
        (
            {
                **reservation(None),
                "each": desk.task(
                    depends_on=[{"output": "reserve.slot", "expired": "reobtain"}],
                    for_each={"over": "${[1, 2]}"},
                ),
            },
            "definition.not_obtained_twice",
        ),
    ],
)
def test_what_can_not_work_is_refused_when_it_is_published(
    systems: ScriptedSystems, tasks: dict[str, Any], code: str
) -> None:
    for name in ("alpha", "beta", "gamma"):
        desk.target(name)
    with pytest.raises(DefinitionInvalid) as refused:
        desk.workflow(tasks)
    assert {fault.code for fault in refused.value.faults} == {code}
