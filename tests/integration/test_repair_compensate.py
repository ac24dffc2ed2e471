"""Undoing what one task has done, while its order goes on (`plan.compensate`)."""

from __future__ import annotations

from typing import Any

import pytest

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import (
    ApprovalNeeded,
    Denied,
    EvidenceMissing,
    NotPossible,
    OutcomeInDoubt,
    ParametersInvalid,
    SubjectChanged,
)
from fulfillment.models import Approval, CaseTask, Command, FalloutCase, Operation, Task, Transition
from fulfillment.operations.compensating import CompensateTask
from fulfillment.operations.repair import Done, Request
from oms.models import Order
from tests import by_hand, desk, people
from tests.desk import ScriptedSystems
from tests.integration.test_overtaken_answers import report

pytestmark = pytest.mark.django_db

COMPENSATE = Action.PLAN_COMPENSATE


def undone_by(action: str, **more: object) -> dict[str, object]:
    return {"action": action, "input": {}, **more}


def asked(order: Order, key: str, **parameters: Any) -> Request:
    return by_hand.request(COMPENSATE, f"task:{order.reference}/{key}", **parameters)


def compensate(order: Order, key: str, **parameters: Any) -> Done:
    actor = people.anybody("anna", COMPENSATE, Action.TASK_WAIVE)
    return by_hand.done_by_two(asked(order, key, **parameters), actor=actor)


@pytest.fixture
def stuck(systems: ScriptedSystems) -> Order:
    """reserve → (tell, label) are done, ship has failed; label has used what reserve returned."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(
                outputs={"number": "string"},
                compensation=undone_by(
                    "release",
                    input={"number": "${tasks.reserve.number}"},
                    refund="49.50",
                    impact={"customer": "The goods are free for others."},
                ),
            ),
            "tell": desk.task(after=["reserve"]),
            "label": desk.task(
                depends_on=[{"output": "reserve.number"}],
                input={"number": "${tasks.reserve.number}"},
                compensation=undone_by("unlabel"),
            ),
            "ship": desk.task(after=["tell", "label"]),
        }
    )
    systems.sends["reserve"] = [desk.succeeded(number="N-1"), desk.succeeded(number="N-2")]
    systems.sends["ship"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    systems.sent.clear()
    return order


def test_it_is_undone_and_done_again_with_what_has_used_it(
    stuck: Order, systems: ScriptedSystems
) -> None:
    done = compensate(stuck, "reserve@1")
    assert "reserve@1 is undone by alpha release, and then done again." in done.told
    assert "With it begins anew what has used its results: label@1." in done.told
    assert "The goods are free for others." in done.customer_impact
    assert "49.50" in done.financial_impact
    desk.finish()
    assert systems.actions() == ["unlabel", "release", "reserve", "label"]
    assert systems.sent[1].payload == {"number": "N-1"}
    assert systems.sent[3].payload == {"number": "N-2"}
    assert desk.newest_plan_of(stuck).state == "BLOCKED"  # ship is another matter.
    assert by_hand.is_intact(stuck)


def test_it_is_undone_and_left(stuck: Order, systems: ScriptedSystems) -> None:
    label = desk.tasks_of(stuck)["label@1"].pk
    done = compensate(stuck, "label@1", and_then="leave")
    assert "left so: it counts as waived" in done.told
    assert CompensateTask().came_about(pks=[label])[label].is_so is None
    desk.finish()
    assert CompensateTask().came_about(pks=[label])[label].is_so is True
    assert systems.actions() == ["unlabel"]
    newest = desk.newest_plan_of(stuck)
    states = {task.key: str(task.state) for task in newest.tasks.all()}
    assert states["label@1"] == "WAIVED_BY_AUTHORIZED_USER"
    row = Transition.objects.get(name="waive")
    assert (row.actor, row.details["evidence"]) == ("anna", by_hand.EVIDENCE)
    ship = newest.tasks.get(key="ship@1")
    operations.retry(task_id=ship.pk, actor=desk.by("ops"), reason="Mended.")
    desk.finish()
    stuck.refresh_from_db()
    assert str(stuck.state) == "COMPLETED"


def test_leaving_it_undone_is_waiving_it(stuck: Order) -> None:
    before = by_hand.everything()
    with pytest.raises(Denied, match="permission task.waive is missing"):
        by_hand.asked_for(
            asked(stuck, "label@1", and_then="leave"), actor=people.anybody("eve", COMPENSATE)
        )
    assert by_hand.differing(before) == []


def test_what_others_use_is_left_only_with_a_value_for_them(
    stuck: Order, systems: ScriptedSystems
) -> None:
    actor = people.anybody("anna", COMPENSATE, Action.TASK_WAIVE)
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="number is needed by label@1"):
        by_hand.asked_for(asked(stuck, "reserve@1", and_then="leave"), actor=actor)
    assert by_hand.differing(before) == []
    compensate(stuck, "reserve@1", and_then="leave", outputs={"number": "BY-HAND"})
    desk.finish()
    assert sorted(systems.actions()) == ["label", "release", "unlabel"]
    (label,) = (one for one in systems.sent if one.action == "label")
    assert label.payload == {"number": "BY-HAND"}


def test_the_preview_is_what_is_done_and_changes_nothing(stuck: Order) -> None:
    actor = people.anybody("anna", COMPENSATE)
    before = by_hand.everything()
    seen = by_hand.previewed(asked(stuck, "reserve@1"), actor=actor)
    assert by_hand.differing(before) == []
    assert seen.needs is Action.APPROVE_OPERATIONS
    assert [one["action"] for one in seen.commands] == ["unlabel"]
    done = compensate(stuck, "reserve@1")
    assert (done.told, done.after["tasks"]) == (seen.done.told, seen.done.after["tasks"])
    rows = Transition.objects.filter(fulfillment_id=stuck.fulfillment_id, actor="anna")
    assert [(one["entity"], one["transition"]) for one in seen.transitions] == [
        (row.entity, row.name)
        for row in rows.order_by("sequence")
        if row.from_state != row.to_state and row.entity != "approval"
    ]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("tell@1", "can't be undone. Nothing to undo in a test."),
        ("ship@1", "ship@1 is FAILED_FINAL: only what is done can be undone."),
    ],
)
def test_what_can_not_be_undone_is_refused_with_the_reason(
    stuck: Order, key: str, why: str
) -> None:
    before = by_hand.everything()
    with pytest.raises(NotPossible, match=why):
        by_hand.asked_for(asked(stuck, key), actor=people.anybody("anna", COMPENSATE))
    assert by_hand.differing(before) == []


def test_what_is_in_doubt_is_not_undone(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task(compensation=undone_by("undo_one"))})
    order = desk.order()
    desk.claim()
    with pytest.raises(OutcomeInDoubt, match="one@1"):
        by_hand.asked_for(asked(order, "one@1"), actor=people.anybody("anna", COMPENSATE))


def test_what_has_used_it_and_is_under_way_ends_first(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}, compensation=undone_by("undo_one")),
            "two": desk.task(
                depends_on=[{"output": "one.number"}], input={"n": "${tasks.one.number}"}
            ),
        }
    )
    systems.sends["one"] = [desk.succeeded(number="1")]
    systems.sends["two"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    with pytest.raises(OutcomeInDoubt, match="two@1"):
        by_hand.asked_for(asked(order, "one@1"), actor=people.anybody("anna", COMPENSATE))


def test_one_of_a_list_is_not_undone_alone(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "port": desk.task(
                for_each={"over": "${item.characteristics.numbers}"},
                compensation=undone_by("unport"),
            ),
            "last": desk.task(after=["port"]),
        }
    )
    systems.sends["last"] = [desk.rejected()]
    order = desk.order(desk.item(characteristics={"numbers": [1, 2]}))
    desk.finish()
    one = Task.objects.filter(element=1).first()
    assert one is not None
    request = by_hand.request(COMPENSATE, f"task:{one.pk}")
    with pytest.raises(NotPossible, match="one of a list"):
        by_hand.asked_for(request, actor=people.anybody("anna", COMPENSATE))
    assert by_hand.is_intact(order)


def test_whoever_may_not_changes_nothing(stuck: Order) -> None:
    before = by_hand.everything()
    for actor in (
        people.anybody(),
        people.actor(people.operator("bob", COMPENSATE, targets=["beta"])),
        desk.by("the engine"),
    ):
        with pytest.raises(Denied):
            operations.prepared(actor=actor, request=asked(stuck, "reserve@1"))
    anna = people.anybody("anna", COMPENSATE)
    with pytest.raises(ApprovalNeeded):
        operations.perform(actor=anna, request=asked(stuck, "reserve@1"))
    with pytest.raises(EvidenceMissing):
        operations.prepared(
            actor=anna,
            request=Request(
                action=COMPENSATE, subject=f"task:{stuck.reference}/reserve@1", reason="x"
            ),
        )
    with pytest.raises(ParametersInvalid):
        operations.prepared(actor=anna, request=asked(stuck, "reserve@1", and_then="forget"))
    assert by_hand.differing(before) == []


def test_whoever_comes_second_undoes_nothing_twice(stuck: Order) -> None:
    first = by_hand.asked_for(asked(stuck, "reserve@1"), actor=people.anybody("anna", COMPENSATE))
    other = by_hand.asked_for(
        asked(stuck, "reserve@1", and_then="leave", outputs={"number": "X"}),
        actor=people.anybody("bob", COMPENSATE, Action.TASK_WAIVE),
    )
    operations.approve(approval_id=first.pk, actor=people.senior(), reason="Agreed.")
    with pytest.raises(SubjectChanged, match=r"Its plan .* by anna"):
        operations.approve(approval_id=other.pk, actor=people.senior(), reason="Agreed.")
    assert Approval.objects.get(pk=other.pk).state == "STALE"
    desk.finish()
    assert Command.objects.filter(action="release").count() == 1


def test_the_record_has_who_why_and_both_plans(stuck: Order) -> None:
    compensate(stuck, "reserve@1")
    record = Operation.objects.get(kind="compensate")
    assert (record.actor, record.evidence) == ("anna", by_hand.EVIDENCE)
    assert record.before["state"] == "SUCCEEDED"
    assert record.after["tasks"]["reserve@1"] == "redone"
    assert record.approval is not None


# --- done twice ---------------------------------------------------------------------------------


def a_charge(**beside: Any) -> None:
    for name in ("alpha", "beta"):
        desk.target(name)
    desk.workflow(
        {
            "charge": desk.task(
                "alpha",
                outputs={"receipt": "string"},
                fallback=[{"target": "beta", "action": "charge_card"}],
                compensation=undone_by("refund", input={"receipt": "${tasks.charge.receipt}"}),
            ),
            "last": desk.task("beta", after=["charge"]),
            **beside,
        }
    )


@pytest.fixture
def twice(systems: ScriptedSystems) -> Order:
    """alpha did it after all, and beta as well, which had been asked for it instead."""
    a_charge()
    order = desk.order()
    (late,) = desk.claim("alpha")
    report(desk.rejected(), event="no")
    systems.sends["charge_card"] = [desk.succeeded(receipt="B")]
    systems.sends["last"] = [desk.rejected()]
    desk.finish()
    desk.settle(desk.result(late, desk.succeeded(receipt="A")))
    systems.sent.clear()
    return order


def test_what_was_done_twice_is_undone_once(twice: Order, systems: ScriptedSystems) -> None:
    command = Command.objects.get(action="charge")
    done = compensate(twice, "charge@1", command_id=command.pk)
    assert f"What command {command.pk} did (alpha charge) is undone by alpha refund" in done.told
    assert "charge@1 stays SUCCEEDED" in done.told
    desk.finish()
    (undo,) = systems.sent
    assert (undo.action, undo.target, undo.payload) == ("refund", "alpha", {"receipt": "A"})
    newest = desk.newest_plan_of(twice)
    charge = newest.tasks.get(key="charge@1")
    assert (str(charge.state), charge.outputs) == ("SUCCEEDED", {"receipt": "B"})
    again = asked(twice, "charge@1", command_id=command.pk)
    with pytest.raises(NotPossible, match="undoes that already; it is SUCCEEDED"):
        by_hand.asked_for(again, actor=people.anybody("anna", COMPENSATE))
    last = newest.tasks.get(key="last@1")
    operations.retry(task_id=last.pk, actor=desk.by("ops"), reason="Mended.")
    desk.finish()
    twice.refresh_from_db()
    assert str(twice.state) == "COMPLETED"
    assert by_hand.is_intact(twice)


def test_the_command_by_which_it_is_done_is_undone_with_the_task(twice: Order) -> None:
    newest = Command.objects.get(action="charge_card")
    with pytest.raises(NotPossible, match="leave command_id out"):
        by_hand.asked_for(
            asked(twice, "charge@1", command_id=newest.pk),
            actor=people.anybody("anna", COMPENSATE),
        )
    others = Command.objects.get(action="last")
    with pytest.raises(NotPossible, match="has no command"):
        by_hand.asked_for(
            asked(twice, "charge@1", command_id=others.pk),
            actor=people.anybody("anna", COMPENSATE),
        )


def test_done_after_it_had_failed_for_good_it_is_undone_as_well(systems: ScriptedSystems) -> None:
    a_charge()
    order = desk.order()
    report(desk.rejected(), event="no")
    systems.sends["charge_card"] = [desk.rejected()]
    desk.finish()
    assert desk.states_of(order)["charge@1"] == "FAILED_FINAL"
    report(desk.succeeded(receipt="A"), event="late")
    assert FalloutCase.objects.filter(category="CONFLICT", state="OPEN").exists()
    command = Command.objects.get(action="charge")
    systems.sent.clear()
    compensate(order, "charge@1", command_id=command.pk)
    desk.finish()
    (undo,) = systems.sent
    assert (undo.action, undo.payload) == ("refund", {"receipt": "A"})
    assert desk.states_of(order)["charge@1"] == "FAILED_FINAL"


def test_what_the_engine_was_not_told_is_entered(twice: Order, systems: ScriptedSystems) -> None:
    FalloutCase.objects.update(facts={})
    CaseTask.objects.update(facts={})
    command = Command.objects.get(action="charge")
    actor = people.anybody("anna", COMPENSATE)
    seen = by_hand.previewed(asked(twice, "charge@1", command_id=command.pk), actor=actor)
    assert "Somebody has to say what it asks for" in seen.done.told
    compensate(twice, "charge@1", command_id=command.pk, returned={"receipt": "LOOKED-UP"})
    desk.finish()
    assert systems.sent[0].payload == {"receipt": "LOOKED-UP"}
