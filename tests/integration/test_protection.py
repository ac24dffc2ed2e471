"""What protects a target system: limits over all workers, a breaker, a pause and a ramp."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fulfillment import operations
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning
from fulfillment.engine.store import targets
from fulfillment.models import Attempt, Operation, TargetCondition, TargetSystem
from fulfillment.states import Breaker
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def orders(count: int, **row: Any) -> list[Order]:
    """So many orders of one task each at the target `alpha`."""
    desk.target("alpha", **row)
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request() for _ in range(count)])
    return list(Order.objects.order_by("id"))


def condition() -> TargetCondition:
    return TargetCondition.objects.get(target_id="alpha")


def edit(**fields: Any) -> None:
    """What an operator saves in the row."""
    TargetSystem.objects.filter(pk="alpha").update(**fields)
    targets.forget()


def test_no_more_calls_are_under_way_than_the_target_allows(systems: ScriptedSystems) -> None:
    orders(10, concurrency_limit=3)
    first = desk.claim(limit=10)
    assert len(first) == 3
    assert desk.claim(limit=10, worker="another") == []
    desk.settle(desk.result(first[0], desk.succeeded()))
    assert len(desk.claim(limit=10, worker="another")) == 1


def test_a_lease_that_ends_gives_its_slot_back(systems: ScriptedSystems, clock: Clock) -> None:
    orders(4, concurrency_limit=2)
    assert len(desk.claim(limit=4, worker="one that dies")) == 2
    clock(21)
    assert len(desk.claim(limit=4)) == 2
    sweeping.sweep()
    assert Attempt.objects.filter(finished_at=None).count() == 2


def test_what_was_accepted_holds_its_slot_where_the_target_says_so(
    systems: ScriptedSystems,
) -> None:
    orders(3, concurrency_limit=2, accepted_holds_slot=True, asynchronous=True)
    for claim in desk.claim(limit=3):
        desk.settle(desk.result(claim, desk.accepted()))
    assert desk.claim(limit=3) == []
    edit(accepted_holds_slot=False)
    assert len(desk.claim(limit=3)) == 1


def test_a_limit_that_an_operator_changes_works_at_once(systems: ScriptedSystems) -> None:
    orders(10, concurrency_limit=1)
    assert len(desk.claim(limit=10)) == 1
    edit(concurrency_limit=4)
    assert len(desk.claim(limit=10)) == 3
    edit(concurrency_limit=None)
    assert len(desk.claim(limit=10)) == 6


def test_the_rate_holds_over_all_workers(systems: ScriptedSystems, clock: Clock) -> None:
    orders(20, rate_per_second=0.1, rate_burst=3)
    assert [len(desk.claim(limit=10, worker=f"w{n}")) for n in range(3)] == [3, 0, 0]
    clock(20)
    assert [len(desk.claim(limit=10, worker=f"w{n}")) for n in range(3)] == [2, 0, 0]


def test_questions_come_first_and_have_a_share_of_their_own(
    systems: ScriptedSystems, clock: Clock
) -> None:
    orders(8, query_slots=2, concurrency_limit=6)
    in_doubt = desk.claim(limit=3)
    desk.settle(*[desk.result(claim, desk.unknown()) for claim in in_doubt])
    clock(1)
    claims = desk.claim(limit=10)
    assert [claim.purpose for claim in claims] == ["QUERY"] * 2 + ["SEND"] * 4
    assert {claim.task_id for claim in claims[:2]} <= {claim.task_id for claim in in_doubt}


def test_a_target_that_does_not_answer_is_left_alone_and_then_tried(
    systems: ScriptedSystems, clock: Clock
) -> None:
    orders(10, breaker_failures=3, breaker_pause=timedelta(seconds=30), breaker_probes=2)
    for claim in desk.claim(limit=3):
        desk.settle_call(claim, desk.failed("http_503"))
    assert condition().breaker == Breaker.OPEN
    assert "http_503" in condition().breaker_reason
    assert desk.claim(limit=10) == []
    clock(31)
    (probe,) = desk.claim(limit=10)
    assert condition().breaker == Breaker.HALF_OPEN
    assert desk.claim(limit=10) == []
    desk.settle_call(probe, desk.succeeded())
    (probe,) = desk.claim(limit=10)
    desk.settle_call(probe, desk.rejected())  # a refusal is an answer
    assert condition().breaker == Breaker.CLOSED
    assert len(desk.claim(limit=10)) == 8
    told = Operation.objects.filter(kind="breaker", subject="target:alpha").order_by("id")
    assert [row.after["breaker"] for row in told] == ["OPEN", "CLOSED"]


def test_a_breaker_that_is_switched_off_while_it_is_open_is_closed_by_the_next_claim(
    systems: ScriptedSystems,
) -> None:
    orders(5, breaker_failures=1, breaker_pause=timedelta(hours=1))
    (claim,) = desk.claim()
    desk.settle_call(claim, desk.failed("http_503"))
    assert desk.claim(limit=3) == []
    edit(breaker_failures=None)
    first, second, _ = desk.claim(limit=3)
    assert (condition().breaker, condition().failures_in_a_row) == (Breaker.CLOSED, 0)
    told = Operation.objects.filter(kind="breaker", subject="target:alpha").latest("id")
    assert (told.after, told.reason) == ({"breaker": "CLOSED"}, "It has been switched off.")
    desk.settle_call(first, desk.failed("http_503"))
    edit(breaker_failures=1)
    assert len(desk.claim()) == 1, "what failed while it was off does not count"
    desk.settle_call(second, desk.failed("http_503"))
    assert condition().breaker == Breaker.OPEN


def test_a_probe_that_fails_or_is_lost_is_followed_by_another(
    systems: ScriptedSystems, clock: Clock
) -> None:
    orders(3, breaker_failures=1, breaker_pause=timedelta(seconds=30))
    (claim,) = desk.claim()
    desk.settle_call(claim, desk.unknown())
    clock(31)
    (probe,) = desk.claim()
    desk.settle_call(probe, desk.unknown())
    assert condition().breaker == Breaker.OPEN
    clock(31)
    assert len(desk.claim(limit=5)) == 1  # its worker dies
    assert desk.claim(limit=5) == []
    clock(21)
    assert len(desk.claim(limit=5)) == 1


def test_orders_complete_after_an_outage_by_themselves(
    systems: ScriptedSystems, clock: Clock
) -> None:
    made = orders(5, breaker_failures=2, breaker_pause=timedelta(seconds=5))
    systems.sends["one"] = [desk.failed()] * 4
    for _ in range(30):
        desk.drain()
        scanning.scan()
        clock(10)
    for order in made:
        order.refresh_from_db()
    assert {order.state for order in made} == {"COMPLETED"}
    assert condition().breaker == Breaker.CLOSED


def test_a_paused_target_is_neither_sent_anything_nor_asked(
    systems: ScriptedSystems, clock: Clock
) -> None:
    orders(3)
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.unknown()))
    clock(1)
    placed = operations.pause_target(target="alpha", reason="Maintenance", actor=by("ann"))
    assert (placed.hold_id, placed.in_flight) == (None, 0)
    assert desk.claim(limit=5) == []
    assert condition().paused_by == "ann"
    assert operations.resume_target(target="alpha", reason="Done", actor=by("bob"))
    assert len(desk.claim(limit=5)) == 3
    kinds = Operation.objects.filter(subject="target:alpha").order_by("id")
    assert [(row.kind, row.actor, row.reason) for row in kinds] == [
        ("pause_target", "ann", "Maintenance"),
        ("resume_target", "bob", "Done"),
    ]


def test_pausing_twice_and_resuming_twice_changes_nothing(systems: ScriptedSystems) -> None:
    orders(1)
    operations.pause_target(target="alpha", reason="One", actor=by("ann"))
    operations.pause_target(target="alpha", reason="Two", actor=by("bob"))
    assert (condition().paused_by, condition().pause_reason) == ("ann", "One")
    assert operations.resume_target(target="alpha", reason="x", actor=by("ann"))
    assert not operations.resume_target(target="alpha", reason="x", actor=by("ann"))
    assert Operation.objects.count() == 2


def test_an_outage_of_many_orders_drains_along_its_ramp(
    systems: ScriptedSystems, clock: Clock
) -> None:
    orders(100, concurrency_limit=50, ramp=timedelta(seconds=100))
    operations.pause_target(target="alpha", reason="Maintenance", actor=by("ann"))
    operations.resume_target(target="alpha", reason="Done", actor=by("ann"))
    under_way = []
    for _ in range(5):
        desk.claim(limit=100)
        under_way.append(Attempt.objects.filter(finished_at=None).count())
        # Every call ends at once; the next round begins 25 s later.
        for attempt in Attempt.objects.filter(finished_at=None):
            Attempt.objects.filter(pk=attempt.pk).update(finished_at=attempt.started_at)
        clock(25)
    assert under_way == [1, 12, 25, 37, 25]  # the last is what is left


def test_saving_the_row_does_not_put_back_what_the_engine_has_counted(
    systems: ScriptedSystems,
) -> None:
    orders(5, breaker_failures=1)
    row = TargetSystem.objects.get(pk="alpha")
    (claim,) = desk.claim()
    desk.settle_call(claim, desk.unknown())
    row.title = "Edited"
    row.save()
    assert condition().breaker == Breaker.OPEN
