"""Invariants of commands and results: one effect per key, and every result in its one place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from fulfillment.engine.dispatch import callbacks, sweeping
from fulfillment.engine.dispatch.callbacks import Receipt, Report
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.store.idempotency import idempotency_key
from fulfillment.models import Command, Disposition, InboundEvent, Task, Transition
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def a_task(**target: Any) -> Order:
    desk.target("alpha", **target)
    desk.workflow({"one": desk.task()})
    return desk.order()


def receive(key: str, outcome: desk.Outcome, *, event: str, source: str = "alpha") -> Receipt:
    return callbacks.receive(
        report=Report(
            source=source, event_id=event, idempotency_key=key, outcome=outcome, body={"a": 1}
        )
    )


def state_of(claim: Claim) -> str:
    return str(Task.objects.get(pk=claim.task_id).state)


def conflicts_of(claim: Claim) -> list[dict[str, Any]]:
    rows = Transition.objects.filter(name="conflicting_outcome", entity_id=str(claim.task_id))
    return [row.details for row in rows]


def test_one_effect_per_key(systems: ScriptedSystems, clock: Clock) -> None:
    order = a_task()
    command = Command.objects.get()
    plan, task = desk.plan_of(order), desk.tasks_of(order)["one@1"]
    assert command.idempotency_key == idempotency_key(
        order_reference=order.reference,
        order_version=order.version,
        plan_id=plan.pk,
        task_id=task.pk,
        action="one",
        revision=1,
        target="alpha",
    )
    systems.sends["one"] = [desk.failed(), desk.unknown(), desk.unknown()]
    systems.queries["one"] = [desk.not_found(), desk.unknown(), desk.not_found()]
    for _ in range(8):
        desk.drain()
        clock(60)
    assert desk.states_of(order) == {"one@1": "SUCCEEDED"}
    asked = systems.sent + systems.queried
    assert (len(systems.sent), len(systems.queried)) == (4, 3)
    assert {one.idempotency_key for one in asked} == {command.idempotency_key}
    assert [one.attempt for one in systems.sent] == sorted({one.attempt for one in systems.sent})
    with pytest.raises(IntegrityError, match="one_effect_per_key"), transaction.atomic():
        Command.objects.create(
            task=task,
            fulfillment_id=task.fulfillment_id,
            revision=2,
            target_id="alpha",
            action="one",
            idempotency_key=command.idempotency_key,
            payload={},
            created_at=desk.now(),
        )


def test_every_task_of_every_order_has_a_key_of_its_own(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"a": desk.task(), "b": desk.task("beta", action="a"), "c": desk.task()})
    desk.submit_all(*(desk.request(desk.item(), desk.item(item_id="2")) for _ in range(3)))
    desk.drain()
    assert len({command.idempotency_key for command in systems.sent}) == len(systems.sent) == 18


# --- truth over fencing -----------------------------------------------------------------------


def overtaken(clock: Clock) -> tuple[Claim, Claim]:
    """The claim of a first send, and of the second send that came after it was found lost."""
    a_task(status_query=False)
    (older,) = desk.claim()
    clock(21)
    sweeping.sweep()
    clock(60)
    (newer,) = desk.claim()
    assert newer.command.attempt > older.command.attempt
    return older, newer


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [(desk.succeeded(), "SUCCEEDED"), (desk.rejected(), "FAILED_FINAL")],
)
def test_truth_over_fencing(clock: Clock, outcome: desk.Outcome, expected: str) -> None:
    older, newer = overtaken(clock)
    desk.settle(desk.result(older, outcome))
    assert state_of(newer) == expected
    # The newer attempt says the same: nothing more to do, nothing to complain about.
    desk.settle(desk.result(newer, outcome))
    assert state_of(newer) == expected
    assert conflicts_of(newer) == []


@pytest.mark.parametrize(
    "outcome",
    [
        desk.accepted(),
        desk.failed(),
        desk.failed(retryable=False),
        desk.unknown(),
        desk.not_found(),
    ],
)
def test_a_vague_outcome_of_an_older_attempt_is_ignored(
    clock: Clock, outcome: desk.Outcome
) -> None:
    older, newer = overtaken(clock)
    before = Transition.objects.count()
    desk.settle(desk.result(older, outcome))
    assert state_of(newer) == "DISPATCHED"
    assert Transition.objects.count() == before


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (desk.succeeded(), desk.rejected("late"), "SUCCEEDED"),
        (desk.rejected(), desk.succeeded(), "FAILED_FINAL"),
    ],
)
def test_a_conflicting_outcome_changes_nothing_and_is_recorded(
    clock: Clock, first: desk.Outcome, second: desk.Outcome, expected: str
) -> None:
    older, newer = overtaken(clock)
    desk.settle(desk.result(newer, first))
    desk.settle(desk.result(older, second))
    assert state_of(newer) == expected
    assert conflicts_of(newer) == [{"outcome": str(second.kind), "code": second.code}]


# --- timeout is not failure -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("idempotent", "status_query", "state", "sends", "queries"),
    [
        (True, True, "SUCCEEDED", 1, 1),
        (False, True, "SUCCEEDED", 1, 1),
        (True, False, "SUCCEEDED", 2, 0),
        (False, False, "AWAITING_MANUAL", 1, 0),
    ],
)
@pytest.mark.parametrize("how", ["timeout", "lost lease", "overdue report"])
def test_timeout_is_not_failure(
    systems: ScriptedSystems,
    clock: Clock,
    idempotent: bool,
    status_query: bool,
    state: str,
    sends: int,
    queries: int,
    how: str,
) -> None:
    order = a_task(idempotent=idempotent, status_query=status_query)
    if how == "lost lease":
        desk.claim()  # and whether it was sent, nobody knows
    else:
        systems.sends["one"] = [desk.unknown() if how == "timeout" else desk.accepted()]
        desk.drain(rounds=1)
    for _ in range(5):
        clock(600)
        sweeping.sweep()
        desk.drain()
    assert desk.states_of(order) == {"one@1": state}
    assert len(systems.sent) == sends - (how == "lost lease")
    assert len(systems.queried) == queries
    assert len({one.idempotency_key for one in systems.sent + systems.queried}) <= 1
    if state == "AWAITING_MANUAL":
        plan = desk.plan_of(order)
        assert plan.state == "BLOCKED"
        assert "neither deduplicate nor be asked" in plan.blocked_reason


def test_where_nobody_can_tell_afterwards_only_one_command_is_on_the_wire_per_claim() -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.target("beta", idempotent=False)
    desk.workflow({"one": desk.task(), "two": desk.task("beta")})
    desk.submit_all(*(desk.request() for _ in range(5)))
    assert len(desk.claim("alpha", limit=5)) == 1
    assert len(desk.claim("beta", limit=5)) == 5


@pytest.mark.parametrize("idempotent", [True, False])
def test_silence_to_queries_never_leads_to_another_send(
    systems: ScriptedSystems, clock: Clock, idempotent: bool
) -> None:
    order = a_task(idempotent=idempotent, maximum_queries=4)
    systems.sends["one"] = [desk.unknown()]
    systems.queries["one"] = [desk.unknown()] * 50
    for _ in range(8):
        desk.drain()
        clock(600)
    assert desk.states_of(order) == {"one@1": "AWAITING_MANUAL"}
    assert (len(systems.sent), len(systems.queried)) == (1, 4)


# --- results from outside ---------------------------------------------------------------------


def test_one_task_per_result(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task(), "two": desk.task("beta")})
    order = desk.order()
    (claim,) = desk.claim()
    key = claim.command.idempotency_key
    # Of an unknown key, and of a key that belongs to another target system: parked.
    assert receive("nobody's", desk.succeeded(), event="E-1").disposition == "UNMATCHED"
    assert receive(key, desk.succeeded(), event="E-2", source="beta").disposition == "UNMATCHED"
    assert desk.states_of(order) == {"one@1": "DISPATCHED", "two@1": "READY"}
    assert receive(key, desk.succeeded(), event="E-3").disposition == "APPLIED"
    assert desk.states_of(order) == {"one@1": "SUCCEEDED", "two@1": "READY"}
    placed = dict(InboundEvent.objects.values_list("event_id", "task_id"))
    assert placed == {"E-1": None, "E-2": None, "E-3": claim.task_id}
    for event, change in (("E-1", {"disposition": "APPLIED"}), ("E-3", {"task": None})):
        with pytest.raises(IntegrityError, match="one_task_per_result"), transaction.atomic():
            InboundEvent.objects.filter(event_id=event).update(**change)


EVENTS = {
    "at work": desk.accepted(),
    "done": desk.succeeded(),
    "done again": desk.succeeded(),
}


@pytest.mark.parametrize("sequence", list(itertools.permutations(EVENTS)))
def test_once_per_event(systems: ScriptedSystems, sequence: tuple[str, ...]) -> None:
    order = a_task()
    (claim,) = desk.claim()
    key = claim.command.idempotency_key
    first = {name: receive(key, EVENTS[name], event=name) for name in sequence}
    for _ in range(2):
        for name in reversed(sequence):
            again = receive(key, EVENTS[name], event=name)
            assert again == Receipt(disposition=first[name].disposition, duplicate=True)
    assert desk.states_of(order) == {"one@1": "SUCCEEDED"}
    moves = Transition.objects.filter(entity="task", entity_id=str(claim.task_id))
    assert moves.filter(to_state="SUCCEEDED").count() == 1
    assert not moves.filter(to_state="ACCEPTED").exists()  # A sign of life moves nothing.
    assert InboundEvent.objects.count() == 3
    order.refresh_from_db()
    assert order.state == "COMPLETED"


def test_the_same_event_id_of_two_targets_is_two_events(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task(), "two": desk.task("beta")})
    order = desk.order()
    for name in ("alpha", "beta"):
        (claim,) = desk.claim(name)
        receipt = receive(claim.command.idempotency_key, desk.succeeded(), event="1", source=name)
        assert receipt == Receipt(disposition=Disposition.APPLIED, duplicate=False)
    assert set(desk.states_of(order).values()) == {"SUCCEEDED"}
