"""Amendments, and what happens to the same order at the same moment: one of both comes first."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from adapters.contract import Command as ToTarget
from adapters.contract import Outcome
from fulfillment.engine.plans import rest, scanning
from fulfillment.engine.work import audit
from fulfillment.engine.work.running import run_unit
from fulfillment.models import Command, Hold, Plan
from oms.changes import amending, cancelling
from oms.changes.cancelling import NotCancellable
from oms.changes.errors import AmendmentError
from oms.changes.requesting import Wish
from oms.intake.feasibility import request_of
from oms.models import AmendmentRequest, AmendmentState, Asset, Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.integration.test_amendment import an_order, line, product
from tests.together import closing, together

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url")


def wish(order: Order, version: int, *items: Any) -> Wish:
    now = request_of(Order.objects.get(pk=order.pk))
    return Wish(order=replace(now, items=list(items)), version=version, reason="a race")


def amend(order: Order, wanted: Wish) -> str:
    """The state of the request, or why there is none."""
    try:
        request = run_unit(
            partial(amending.amend, order_id=order.pk, wish=wanted),
            fulfillment_ids=[order.fulfillment_id],
            actor="ann",
        )
    except AmendmentError as error:
        return error.code
    return str(request.state)


def settled(order: Order) -> Order:
    for script in desk.systems.sends.values():
        script.clear()
    for _ in range(5):
        desk.finish()
        rest.look()
    order.refresh_from_db()
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
    assert not Hold.objects.filter(released_at=None).exists()
    return order


def test_amending_twice_at_once_has_one_winner(systems: ScriptedSystems) -> None:
    product()
    answers = set()
    for number in range(8):
        order = an_order(line())
        one, other = (wish(order, 2, line(quantity=many)) for many in (2, 3))
        found = together(partial(amend, order, one), partial(amend, order, other))
        assert sorted(found) in (
            ["APPLIED", "amendment.version_used"],
            ["ASSESSING", "amendment.version_used"],
        )
        answers.update(found)
        assert AmendmentRequest.objects.filter(order=order).count() == 1
        settled(order)
        (kept,) = AmendmentRequest.objects.filter(order=order)
        assert order.version == 2
        assert order.items.get().quantity == kept.document["items"][0]["quantity"]
        assert Asset.objects.count() == number + 1
    assert "APPLIED" in answers


def test_the_same_amendment_twice_at_once_is_one(systems: ScriptedSystems) -> None:
    product()
    for _ in range(5):
        order = an_order(line())
        wanted = wish(order, 2, line(quantity=2))
        assert set(together(*[partial(amend, order, wanted)] * 3)) == {"APPLIED"}
        assert Plan.objects.filter(fulfillment_id=order.fulfillment_id).count() == 2


def test_the_newer_of_two_at_once_stands_in_the_end(systems: ScriptedSystems) -> None:
    product()
    for _ in range(8):
        order = an_order(line())
        older, newer = (wish(order, version, line(quantity=version)) for version in (2, 3))
        found = together(partial(amend, order, older), partial(amend, order, newer))
        assert found[1] == "APPLIED"
        assert found[0] in ("APPLIED", "amendment.outdated")
        settled(order)
        assert (order.state, order.version, order.items.get().quantity) == ("COMPLETED", 3, 3)


def test_an_order_is_amended_and_cancelled_at_the_same_moment(systems: ScriptedSystems) -> None:
    product()
    seen = set()
    for _ in range(10):
        systems.sends["build"] = [desk.failed(retry_after=timedelta(hours=9))] * 9
        order = an_order(line())
        desk.drain()

        def cancel(order: Order = order) -> str:
            try:
                done = cancelling.cancel(order=order, requested_by="bob", reason="a race")
            except NotCancellable as error:
                return error.code
            return str(done.request.state)

        wanted = wish(order, 2, line(quantity=2))
        amended, cancelled = together(partial(amend, order, wanted), cancel)
        seen.add(amended)
        assert cancelled in ("UNDOING", "DONE")
        assert amended in ("APPLIED", "amendment.order_is_being_cancelled")
        systems.sent.clear()
        assert settled(order).state == "CANCELLED"
        assert "build" not in systems.actions()
        assert not Asset.objects.filter(order=order).exists()
    assert seen


def test_an_answer_that_races_an_amendment_counts(systems: ScriptedSystems) -> None:
    product()
    for _ in range(8):
        order = an_order(line())
        (claim,) = desk.claim()
        result = desk.result(claim, desk.succeeded())
        wanted = wish(order, 2, line(quantity=2))
        _, found = together(partial(desk.settle, result), partial(amend, order, wanted))
        assert found in ("APPLIED", "ASSESSING")
        systems.sent.clear()
        assert settled(order).state == "COMPLETED"
        assert systems.actions() == ["release", "reserve", "build", "bill"]
        assert order.amendments.get().state == AmendmentState.APPLIED


def test_nothing_is_sent_for_what_is_not_wanted_any_more_under_load(
    systems: ScriptedSystems,
) -> None:
    """Orders are revised while four threads send what they ask for."""
    product()
    made = [an_order(line(), line("2")) for _ in range(16)]
    over = threading.Event()
    late: list[str] = []

    def answered(command: ToTarget) -> Outcome:
        row = Command.objects.select_related("task__plan").get(
            idempotency_key=command.idempotency_key
        )
        if row.task.plan.state == "SUPERSEDED":
            late.append(command.idempotency_key)
        return desk.succeeded()

    for action in ("reserve", "build", "bill", "release", "tear_down"):
        systems.sends[action] = [answered] * 10_000

    def work() -> None:
        while not over.is_set():
            scanning.scan()
            desk.drain(rounds=1)
            rest.look()

    threads = [threading.Thread(target=closing(work)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for version, order in itertools.product((2, 3), made):
            many = 10 * version
            items = [line(quantity=many), line(f"new-{version}")]
            found = amend(order, wish(order, version, *items))
            assert found in ("APPLIED", "ASSESSING", "amendment.order_is_over"), found
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    for _ in range(5):
        desk.finish()
        rest.look()
    assert late == []
    for order in made:
        order.refresh_from_db()
        assert order.state == "COMPLETED"
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []
        expected = {
            f"{order.reference}-{item.position}": item.quantity for item in order.items.all()
        }
        active = {
            one.asset_id: one.quantity for one in Asset.objects.filter(order=order, state="ACTIVE")
        }
        assert active == expected
    assert not Hold.objects.filter(released_at=None).exists()
    assert AmendmentRequest.objects.filter(state=AmendmentState.ASSESSING).count() == 0
