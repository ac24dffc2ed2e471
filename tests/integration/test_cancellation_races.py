"""A cancellation and what happens to the order at the same moment: one of both comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from fulfillment.engine.plans import rest
from fulfillment.engine.work import audit
from fulfillment.models import Attempt, Plan
from oms.changes import cancelling
from oms.changes.cancelling import Cancellation, NotCancellable
from oms.intake import feasibility
from oms.models import CancellationRequest, Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.integration.test_cancellation import a_service, asked_whether_it_can_be_done
from tests.together import closing, together

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url")


def cancel(order: Order) -> Cancellation | None:
    """None: it was complete before."""
    try:
        return cancelling.cancel(order=order, requested_by="a client", reason="Enough.")
    except NotCancellable:
        return None


def state_of(order: Order) -> str:
    order.refresh_from_db()
    return str(order.state)


def test_of_many_who_cancel_at_once_one_makes_the_request(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["activate"] = [desk.failed(retryable=False)]
    order = desk.order()
    desk.finish()
    done = together(*[partial(cancel, order)] * 4)
    assert [one.is_new for one in done if one].count(True) == 1
    assert len({one.request.pk for one in done if one}) == 1
    assert CancellationRequest.objects.count() == 1
    assert Plan.objects.count() == 2
    desk.finish()
    assert state_of(order) == "CANCELLED"
    assert systems.actions().count("release") == 1
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_a_claim_that_races_the_cancellation_is_settled_and_undone_or_never_sent(
    systems: ScriptedSystems,
) -> None:
    a_service()
    outcomes: Counter[str] = Counter()
    for _ in range(12):
        order = desk.order()
        claims, done = together(desk.claim, partial(cancel, order))
        assert isinstance(done, Cancellation)
        outcomes[str(done.request.state)] += 1
        assert [claim.command.action for claim in claims] == (
            ["reserve"] if done.request.state == "ASSESSING" else []
        )
        systems.sent.clear()
        desk.settle(*[desk.result(claim, desk.succeeded()) for claim in claims])
        rest.look()
        desk.finish()
        assert state_of(order) == "CANCELLED"
        assert systems.actions() == ["release"] * len(claims)
    assert sum(outcomes.values()) == 12


def test_an_answer_that_races_the_cancellation_leaves_nothing_reserved(
    systems: ScriptedSystems,
) -> None:
    a_service()
    made = [desk.order() for _ in range(10)]
    claims = {claim.fulfillment_id: claim for claim in desk.claim(limit=10)}
    for order in made:
        result = desk.result(claims[order.fulfillment_id], desk.succeeded())
        together(partial(desk.settle, result), partial(cancel, order))
    rest.look()
    desk.finish()
    assert {state_of(order) for order in made} == {"CANCELLED"}
    assert Counter(systems.actions()) == {"release": 10}


def test_two_that_decide_at_once_decide_once(systems: ScriptedSystems) -> None:
    a_service()
    systems.sends["reserve"] = [desk.unknown()]
    systems.queries["reserve"] = [desk.succeeded()]
    order = desk.order()
    (claimed,) = desk.claim()
    assert cancel(order)
    desk.settle(desk.result(claimed, desk.succeeded()))
    decide = partial(cancelling.decide_due, fulfillment_ids=[order.fulfillment_id])
    together(decide, decide, rest.look)
    assert decide() == 0
    desk.finish()
    assert state_of(order) == "CANCELLED"
    assert systems.actions() == ["release"]
    assert Plan.objects.count() == 2


def test_an_answer_that_comes_after_the_cancellation_changes_nothing(
    systems: ScriptedSystems,
) -> None:
    order = asked_whether_it_can_be_done()

    def answered_too_late(command: Any) -> Any:
        closing(partial(cancel, order))()
        return desk.succeeded()

    systems.sends["check"] = [answered_too_late]
    assert feasibility.assess() == 1
    assert state_of(order) == "CANCELLED"
    assert feasibility.assess() == 0
    assert not Plan.objects.exists()
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []


def test_an_acceptance_that_races_the_cancellation_is_given_up(systems: ScriptedSystems) -> None:
    made = [asked_whether_it_can_be_done() for _ in range(6)]
    for order in made:
        together(feasibility.assess, partial(cancel, order))
    desk.finish()
    assert {state_of(order) for order in made} <= {"CANCELLED"}
    assert "only" not in systems.actions()


def test_nothing_new_is_sent_after_the_request_however_many_are_at_work(
    systems: ScriptedSystems,
) -> None:
    """Under load: what was sent before is undone, and nothing is sent twice."""
    a_service(activation=None)
    made = [desk.order() for _ in range(60)]

    def work_off() -> list[Any]:
        for _ in range(40):
            desk.drain(rounds=1)
        return []

    def cancel_all(orders: Sequence[Order]) -> list[Any]:
        return [cancel(order) for order in orders]

    works: list[Callable[[], list[Any]]] = [work_off] * 4
    works += [partial(cancel_all, made[start::2]) for start in (0, 1)]
    together(*works)
    rest.look()
    desk.finish()

    requests = CancellationRequest.objects.select_related("order")
    assert {str(request.state) for request in requests} == {"DONE"}
    for request in requests:
        late = Attempt.objects.filter(
            command__fulfillment_id=request.order.fulfillment_id,
            purpose="SEND",
            started_at__gt=request.requested_at,
        )
        keys = set(late.values_list("task__key", flat=True))
        assert all(key.startswith("undo.") for key in keys), keys
    sent = Counter((command.order_reference, command.action) for command in systems.sent)
    assert set(sent.values()) <= {1}  # None, where they were all cancelled first.
    cancelled = {request.order.reference for request in requests}
    assert cancelled
    for order in made:
        state = state_of(order)
        assert state == ("CANCELLED" if order.reference in cancelled else "COMPLETED")
        for done, undone in (("reserve", "release"), ("activate", "deactivate")):
            both = (order.reference, done), (order.reference, undone)
            if state == "CANCELLED":
                assert sent[both[0]] == sent[both[1]]
            else:
                assert (sent[both[0]], sent[both[1]]) == (1, 0)
        assert audit.verify(fulfillment_id=order.fulfillment_id) == []
