"""Versions: what is in flight stays as it was generated, unless it is moved explicitly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from fulfillment import operations
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.work import audit
from fulfillment.errors import OrderUnknown, ReasonMissing, WorkflowUnknown
from fulfillment.models import (
    Command,
    FalloutCase,
    FanOut,
    HoldScope,
    ManualTask,
    Operation,
    Plan,
    Task,
    Transition,
)
from fulfillment.operations import Migration, Verdict
from fulfillment.publishing import publish as publish_definition
from fulfillment.queries import fulfillments
from oms.models import Milestone, Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

Tasks = Mapping[str, Mapping[str, Any]]


def publish(version: int, tasks: Tasks, **more: Any) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(tasks, version=version, **more)


def migrate(*orders: Order, **more: Any) -> list[Migration]:
    return list(
        operations.migrate_orders(
            **{
                "workflow": "thing",
                "version": None,
                "orders": [order.reference for order in orders],
                "reason": "the new contract",
                "actor": by("an operator"),
                **more,
            }
        )
    )


def moved(order: Order) -> Plan:
    (done,) = migrate(order)
    assert (done.verdict, done.reasons) == (Verdict.MOVED, ())
    return Plan.objects.get(pk=done.plan_id)


def refused(order: Order) -> str:
    before = list(Task.objects.order_by("pk").values())
    (done,) = migrate(order)
    assert done.verdict is Verdict.UNSAFE
    assert list(Task.objects.order_by("pk").values()) == before
    assert Plan.objects.get(fulfillment_id=order.fulfillment_id).version == 1
    return " ".join(done.reasons)


def fates(done: Migration) -> dict[str, str]:
    assert done.comparison is not None
    return {change.key: str(change.fate) for change in done.comparison.changes}


def of_plan(plan: Plan) -> dict[str, str]:
    return {task.key: str(task.state) for task in Task.objects.filter(plan=plan)}


def chain(*names: str, **specs: Any) -> dict[str, Any]:
    return {
        name: desk.task(after=[before] if before else [], **specs.get(name, {}))
        for before, name in zip(["", *names], names, strict=False)
    }


def test_version_pinned(systems: ScriptedSystems) -> None:
    publish(1, chain("one", "two"))
    old = desk.order()
    publish(2, chain("one", "extra", "two"))
    new = desk.order()
    desk.drain()
    for order, keys in ((old, {"one@1", "two@1"}), (new, {"one@1", "extra@1", "two@1"})):
        order.refresh_from_db()
        assert order.state == "COMPLETED"
        assert set(desk.states_of(order)) == keys


def test_no_in_place_mutation(systems: ScriptedSystems) -> None:
    publish(1, chain("one", "two", "three"))
    order = desk.order()
    first = desk.plan_of(order)
    graph = first.graph_id
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    publish(2, chain("one", "two", "inserted", "three"))
    (second,) = [moved(order)]
    first.refresh_from_db()
    assert (first.state, first.graph_id, first.version) == ("SUPERSEDED", graph, 1)
    assert (second.state, second.version, second.order_version) == ("RUNNING", 2, 1)
    assert of_plan(second) == {
        "one@1": "SUCCEEDED",
        "two@1": "READY",
        "inserted@1": "PENDING",
        "three@1": "PENDING",
    }
    assert (second.tasks_total, second.tasks_open, second.mandatory_open) == (4, 3, 3)
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.actions() == ["two", "inserted", "three"]
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_the_old_plan_keeps_a_record_of_how_it_stood(systems: ScriptedSystems) -> None:
    publish(1, chain("one", "two", "three"))
    order = desk.order()
    first = desk.plan_of(order)
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    publish(2, chain("one", "two"))
    second = moved(order)
    row = Transition.objects.get(entity="plan", entity_id=str(first.pk), name="supersede")
    assert row.actor == "an operator"
    assert row.cause == "migrated to thing v2: the new contract"
    assert row.details == {
        "successor": second.pk,
        "tasks": {"one@1": "SUCCEEDED", "two@1": "READY", "three@1": "PENDING"},
    }
    assert of_plan(first) == {"three@1": "CANCELLED"}
    assert (fulfillments.how_it_stood(plan=first), fulfillments.how_it_stood(plan=second)) == (
        row.details,
        {},
    )
    operation = Operation.objects.get(kind="migrate_order")
    assert (operation.subject, operation.actor) == (f"order:{order.reference}", "an operator")
    assert operation.before == {"plan": first.pk, "workflows": {"thing": 1}}
    assert operation.after == {"plan": second.pk, "workflows": {"thing": 2}}


def test_superseded_silent_after_a_migration(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    publish(1, chain("one", "two"))
    order = desk.order()
    publish(2, chain("zero", "one", one={"target": "beta"}))
    second = moved(order)
    # Under v1 `one` was READY at alpha; now it waits for `zero`, and for another target.
    assert [claim.command.action for claim in desk.claim("alpha", limit=10)] == ["zero"]
    assert desk.claim("beta", limit=10) == []
    Plan.objects.filter(state="SUPERSEDED").update(selection_due_at=desk.now())
    scanning.scan()
    clock(3600)
    assert desk.claim("alpha", limit=10) == []
    assert of_plan(second) == {"zero@1": "DISPATCHED", "one@1": "PENDING"}
    assert set(of_plan(Plan.objects.get(state="SUPERSEDED")).values()) == {"CANCELLED"}


def test_what_was_on_the_wire_settles_in_the_plan_that_took_over(
    systems: ScriptedSystems,
) -> None:
    publish(1, chain("one", "two"))
    order = desk.order()
    (claim,) = desk.claim()
    publish(2, chain("one", "inserted", "two"))
    second = moved(order)
    key = Command.objects.get().idempotency_key
    desk.settle(desk.result(claim, desk.succeeded()))
    assert of_plan(second) == {"one@1": "SUCCEEDED", "inserted@1": "READY", "two@1": "PENDING"}
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert Command.objects.filter(idempotency_key=key).count() == 1
    assert Command.objects.filter(action="one").count() == 1


def test_an_unknown_outcome_is_reconciled_after_the_migration(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    publish(1, chain("one", "two"))
    order = desk.order()
    desk.settle(desk.result(desk.claim()[0], desk.unknown()))
    publish(2, chain("one", "inserted", "two"))
    moved(order)
    systems.queries["one"] = [desk.succeeded()]
    clock(60)
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.actions() == ["inserted", "two"]


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (chain("two"), "one@1 is SUCCEEDED, and would not exist."),
        (chain("one", "two", one={"target": "beta"}), "would have other target"),
        (chain("one", "two", one={"action": "differently"}), "would have other action"),
        (chain("one", "two", one={"input": {"a": 1}}), "would have other input"),
        (chain("before", "one", "two"), "before@1 would have to run before it"),
        (
            {
                "one": desk.task(outputs={"number": "string"}),
                "two": desk.task(
                    depends_on=[{"output": "one.number"}], input={"n": "${tasks.one.number}"}
                ),
            },
            "two@1 would need the output number of one@1, which has succeeded without it.",
        ),
        (
            {
                "choose": desk.step(decide=[{"otherwise": ["one"]}]),
                "one": desk.task(),
                "two": desk.task(),
            },
            "one@1 is SUCCEEDED, and would first have to be decided.",
        ),
    ],
)
def test_what_can_not_be_made_undone_is_refused(
    systems: ScriptedSystems, later: Tasks, why: str
) -> None:
    publish(1, chain("one", "two"))
    order = desk.order()
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    publish(2, later)
    assert why in refused(order)
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"  # where it was


@pytest.mark.parametrize("outcome", [None, desk.accepted(), desk.unknown()], ids=str)
def test_what_is_under_way_must_be_kept_exactly(systems: ScriptedSystems, outcome: Any) -> None:
    publish(1, chain("one", "two"))
    order = desk.order()
    (claim,) = desk.claim()
    if outcome is not None:
        desk.settle(desk.result(claim, outcome))
    publish(2, chain("one", "two", one={"timeouts": {"call": "PT3S"}}))
    assert "would have other call_timeout_seconds" in refused(order)


def test_a_command_that_was_never_sent_is_made_anew(systems: ScriptedSystems) -> None:
    publish(1, chain("one", "two"))
    order = desk.order()
    publish(2, chain("one", "two", one={"input": {"better": True}}))
    moved(order)
    desk.drain()
    assert [dict(command.payload) for command in systems.sent] == [{"better": True}, {}]
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_what_failed_without_effect_may_be_done_in_another_way(systems: ScriptedSystems) -> None:
    publish(1, chain("one", "two"))
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.drain()
    assert desk.plan_of(order).state == "BLOCKED"
    publish(2, chain("one", "two", one={"target": "beta"}))
    second = moved(order)
    assert not FalloutCase.objects.filter(state="OPEN").exists()
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert [(one.target, one.action) for one in systems.sent] == [
        ("alpha", "one"),
        ("beta", "one"),
        ("alpha", "two"),
    ]
    assert Plan.objects.get(pk=second.pk).mandatory_open == 0


def test_a_task_whose_input_could_not_be_made_is_made_by_the_new_version(
    systems: ScriptedSystems,
) -> None:
    publish(1, chain("one", one={"input": {"sim": "${item.characteristics.sim}"}}))
    order = desk.order()
    assert desk.states_of(order) == {"one@1": "AWAITING_MANUAL"}
    publish(2, chain("one", one={"input": {"sim": "${item.characteristics.sim?}"}}))
    moved(order)
    desk.drain()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert not FalloutCase.objects.filter(state="OPEN").exists()


def test_a_person_decides_after_the_migration(systems: ScriptedSystems) -> None:
    ask = {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Look.",
        "within": "P2D",
        "otherwise": "escalate",
        "outcomes": {"yes": "proceed", "no": "refuse"},
    }
    publish(1, {"ask": desk.step(manual=ask), "one": desk.task(after=["ask"])})
    order = desk.order()
    publish(2, {"ask": desk.step(manual=ask), "other": desk.task(after=["ask"])})
    moved(order)
    operations.decide(
        manual_id=ManualTask.objects.get().pk, outcome="yes", actor=by("a manager"), reason="fine"
    )
    desk.drain()
    assert systems.actions() == ["other"]
    publish(3, {"ask": desk.step(manual={**ask, "role": "boss"}), "one": desk.task(after=["ask"])})
    waiting = desk.order()
    publish(4, {"ask": desk.step(manual=ask), "one": desk.task(after=["ask"])})
    assert "ask@1 is AWAITING_MANUAL, and would have other manual" in refused(waiting)


def branches(otherwise: list[str], **more: Any) -> dict[str, Any]:
    return {
        "choose": desk.step(decide=[{"otherwise": otherwise}]),
        "left": desk.task(),
        "right": desk.task(),
        "end": desk.step(wait={"delay": "PT1M"}, join="deferred", after=["left", "right"]),
        **more,
    }


def test_a_decision_that_was_taken_stands(
    systems: ScriptedSystems, clock: Callable[[float], None]
) -> None:
    both = [{"when": "order.priority > 0", "create": ["right"]}, {"otherwise": ["left"]}]
    publish(1, {**branches([]), "choose": desk.step(decide=both)})
    order = desk.order()
    assert set(desk.states_of(order)) == {"choose@1", "left@1", "end@1"}
    publish(
        2,
        {**branches([]), "choose": desk.step(decide=both), "more": desk.task(after=["left"])},
    )
    second = moved(order)
    assert set(of_plan(second)) == {"choose@1", "left@1", "end@1", "more@1"}
    assert second.mandatory_total == 4
    desk.drain()
    clock(61)
    sweeping.sweep()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    other = desk.order()
    publish(3, branches(["right", "left"]))
    assert "choose@1 is SUCCEEDED, and would have other decision" in refused(other)


def etl(**each: Any) -> dict[str, Any]:
    return {
        "extract": desk.task(outputs={"parts": "list"}),
        "enrich": desk.task(
            depends_on=[{"output": "extract.parts"}],
            for_each={"over": "${tasks.extract.parts}", "at_once": 2, **each},
            input={"part": "${element}"},
            outputs={"rows": "integer"},
        ),
        "load": desk.task(
            depends_on=[{"output": "enrich.rows"}], input={"rows": "${tasks.enrich.rows}"}
        ),
    }


def test_a_fan_out_under_way_goes_on_in_the_new_plan(systems: ScriptedSystems) -> None:
    publish(1, etl())
    systems.sends["extract"] = [desk.succeeded(parts=["a", "b", "c"])]
    systems.sends["enrich"] = [desk.succeeded(rows=number) for number in (1, 2, 3)]
    order = desk.order()
    for action in ("extract", "enrich"):
        (claim,) = desk.claim()
        assert claim.command.action == action
        answer = systems.sends[action].pop(0)
        desk.settle(desk.result(claim, answer))
    publish(2, {**etl(), "report": desk.task(after=["load"])})
    second = moved(order)
    assert FanOut.objects.get().plan_id == second.pk
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert [dict(one.payload) for one in systems.sent if one.action == "load"] == [
        {"rows": [1, 2, 3]}
    ]
    assert set(of_plan(second).values()) == {"SUCCEEDED"}
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (etl(at_once=9), "would have other at_once"),
        (etl(over="${tasks.extract.parts?}"), "would have other over"),
        ({**etl(), "enrich": {**etl()["enrich"], "target": "beta"}}, "with its elements"),
    ],
)
def test_a_fan_out_under_way_is_not_changed(
    systems: ScriptedSystems, later: Tasks, why: str
) -> None:
    publish(1, etl())
    order = desk.order()
    desk.settle(desk.result(desk.claim()[0], desk.succeeded(parts=["a", "b", "c"])))
    publish(2, {name: dict(spec) for name, spec in later.items()})
    assert why in refused(order)


def test_holds_are_not_lost_by_the_way(systems: ScriptedSystems) -> None:
    publish(1, chain("one", "two"))
    order = desk.order()
    publish(2, chain("one", "two", "three"))

    def hold(scope: HoldScope, name: str) -> int:
        placed = operations.place_hold(scope=scope, name=name, reason="x", actor=by("x"))
        assert placed.hold_id is not None
        return placed.hold_id

    on_plan = hold(HoldScope.PLAN, str(desk.plan_of(order).pk))
    assert f"Hold {on_plan} is on plan" in refused(order)
    operations.release_hold(hold_id=on_plan, reason="x", actor=by("x"))
    hold(HoldScope.ORDER, order.reference)
    moved(order)
    assert desk.claim(limit=5) == []


def test_milestones_that_are_reached_under_the_new_version_only_are_told(
    systems: ScriptedSystems,
) -> None:
    publish(1, chain("one", "two"))
    order = desk.order()
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    publish(
        2,
        chain("one", "two"),
        milestones={"halfway": {"title": "Half way", "reached_by": "one"}},
    )
    moved(order)
    assert list(Milestone.objects.values_list("name", flat=True)) == ["halfway"]


def test_running_again_goes_on_where_it_was_interrupted(systems: ScriptedSystems) -> None:
    publish(1, chain("one", "two"))
    over, begun, first, second = (desk.order(priority=9 - number) for number in range(4))
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    publish(2, chain("zero", "one", "two"))
    moved(first)  # and then the command was interrupted
    verdicts = {one.order_reference: one.verdict for one in migrate(orders=None)}
    assert verdicts == {begun.reference: Verdict.UNSAFE, second.reference: Verdict.MOVED}
    plans = Plan.objects.count()
    assert {one.verdict for one in migrate(orders=None)} == {Verdict.UNSAFE}
    assert {one.reasons for one in migrate(over, first)} == {
        ("Its plan is COMPLETED.",),
        ("It is at v2 already.",),
    }
    assert Plan.objects.count() == plans


def test_one_bad_order_does_not_keep_the_others(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1, chain("one"))
    good, bad, other = desk.order(), desk.order(), desk.order()
    Plan.objects.filter(fulfillment=bad.fulfillment_id).update(context={"order": {}})
    publish(2, chain("one", "two"))
    verdicts = {one.order_reference: one for one in migrate(good, bad, other)}
    assert [verdicts[order.reference].verdict for order in (good, bad, other)] == [
        Verdict.MOVED,
        Verdict.UNSAFE,
        Verdict.MOVED,
    ]
    assert "nothing was changed: KeyError" in verdicts[bad.reference].reasons[0]


def sub_process(version: int, *names: str) -> None:
    publish_definition(
        definition=WorkflowDefinition.model_validate(
            {
                "workflow": "account",
                "version": version,
                "title": "A sub-process",
                "subprocess": {},
                "tasks": {name: {"action": name, **spec} for name, spec in chain(*names).items()},
            }
        ),
        published_by="a test",
    )


def test_a_sub_process_is_migrated_by_its_own_name(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    sub_process(1, "create")
    tasks = {**chain("check"), "account": desk.step(use="account", after=["check"])}
    publish(1, tasks)
    order = desk.order()
    sub_process(2, "create", "verify")
    publish(2, {**tasks, "welcome": desk.task(after=["account"])})
    plan = moved(order)  # Its own workflow alone.
    assert set(of_plan(plan)) == {
        "check@1",
        "account~inputs@1",
        "account/create@1",
        "account@1",
        "welcome@1",
    }
    (done,) = migrate(order, workflow="account")
    assert fates(done)["account/verify@1"] == "added"
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.actions() == ["check", "create", "verify", "welcome"]


def test_who_asks_for_nonsense_is_told_before_anything_changes(systems: ScriptedSystems) -> None:
    publish(1, chain("one"))
    order = desk.order()
    with pytest.raises(WorkflowUnknown):
        migrate(order, version=7)
    with pytest.raises(WorkflowUnknown):
        migrate(order, workflow="nothing")
    with pytest.raises(OrderUnknown, match="O-999999"):
        migrate(order, orders=[order.reference, "O-999999"])
    with pytest.raises(ReasonMissing):
        migrate(order, reason=" ")


def test_the_command_shows_what_would_change_and_refuses_what_is_unsafe(
    systems: ScriptedSystems,
) -> None:
    publish(1, chain("one", "two"))
    begun = desk.order(priority=9)
    desk.settle(desk.result(desk.claim()[0], desk.succeeded()))
    fresh = desk.order()
    publish(2, chain("before", "one", "three"))

    def run(*options: str) -> str:
        out = StringIO()
        with pytest.raises(CommandError, match="stays as it was"):
            call_command(
                "workflows",
                "migrate",
                "thing",
                "--all-active",
                "--reason=new",
                *options,
                stdout=out,
            )
        return out.getvalue()

    told = run("--dry-run")
    assert told.splitlines() == [
        f"{begun.reference} unsafe",
        "  ! one@1 is SUCCEEDED, and before@1 would have to run before it.",
        "  added    before@1",
        "  changed  one@1 (depends_on)",
        "  added    three@1",
        "  removed  two@1",
        f"{fresh.reference} safe",
        "  added    before@1",
        "  changed  one@1 (depends_on)",
        "  added    three@1",
        "  removed  two@1",
        "1 safe, 1 unsafe",
    ]
    assert Plan.objects.count() == 2
    assert "1 moved, 1 unsafe" in run()
    assert Plan.objects.count() == 3


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "scanner"])
def test_a_migrated_order_completes_by_either_path(
    systems: ScriptedSystems, settings: Any, fast_path: bool
) -> None:
    settings.OMS_FAST_PATH = fast_path
    publish(1, chain("one", "two"))
    order = desk.order()
    publish(2, chain("zero", "one", "two"))
    moved(order)
    scanning.scan()
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    assert systems.actions() == ["zero", "one", "two"]


def test_how_a_fallback_is_undone_may_be_corrected_and_what_it_asked_for_may_not(
    systems: ScriptedSystems,
) -> None:
    def ways(**other: Any) -> dict[str, Any]:
        fallback = [{"target": "beta", "action": "otherwise", **other}]
        return chain("one", "two", one={"fallback": fallback})

    publish(1, ways())
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.drain(["alpha"])
    desk.drain(["beta"])
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"
    publish(2, ways(input={"amount": 1}))
    assert "one@1 is SUCCEEDED, and would have other fallbacks" in refused(order)
    publish(3, ways(compensation={"action": "undo"}))
    plan = moved(order)
    node = fulfillments.graph_document(plan=plan)["nodes"][0]
    assert node["undo"] == {"target": "beta", "action": "undo"}
