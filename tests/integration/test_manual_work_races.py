"""Two people at the same manual task: one wins, and the other is told by whom and what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment import operations
from fulfillment.engine.plans import signals
from fulfillment.errors import DecisionMade, FulfillmentError, ManualTaskTaken, NotPossible
from fulfillment.models import ManualTask, Operation
from oms.models import CancellationRequest, Order
from tests import by_hand, desk, manual_work
from tests.desk import by
from tests.manual_work import the_one
from tests.together import together

pytestmark = pytest.mark.usefixtures("committed_db")


def outcome_of(work: Callable[[], object]) -> str:
    """What became of it for one of them: done, or the code of the refusal with its words."""
    try:
        work()
    except FulfillmentError as error:
        return f"{error.code} {error}"
    return "done"


def asked() -> Order:
    desk.fresh_systems()
    return manual_work.asked()


def test_of_many_who_claim_it_one_has_it() -> None:
    order = asked()
    manual = the_one(order)
    names = [f"person-{number}" for number in range(6)]

    def claims(name: str) -> Callable[[], str]:
        return lambda: outcome_of(
            lambda: operations.claim(manual_id=manual.pk, actor=by(name), reason="Mine.")
        )

    told = together(*map(claims, names))
    assert told.count("done") == 1
    winner = names[told.index("done")]
    lost = [one for one in told if one != "done"]
    assert all(one.startswith(ManualTaskTaken.code) and winner in one for one in lost)
    manual.refresh_from_db()
    assert (str(manual.state), manual.claimed_by) == ("CLAIMED", winner)
    assert Operation.objects.filter(kind="claim").count() == 1
    assert by_hand.is_intact(order)


def test_of_a_decision_a_cancellation_and_a_question_each_is_whole() -> None:
    order = asked()
    choices = ["approved", "rejected", "cancelled", "approved"]

    def decides(number: int, outcome: str) -> Callable[[], str]:
        return lambda: outcome_of(
            lambda: manual_work.decide(order, outcome, actor=by(f"person-{number}"))
        )

    told = together(*(decides(number, one) for number, one in enumerate(choices)))
    assert told.count("done") == 1
    assert all(
        one.startswith((DecisionMade.code, ManualTaskTaken.code, NotPossible.code))
        for one in told
        if one != "done"
    )
    manual = ManualTask.objects.get()
    won = choices[told.index("done")]
    assert (str(manual.state), manual.outcome) == ("DECIDED", won)
    assert manual.decided_by == f"person-{told.index('done')}"
    assert CancellationRequest.objects.exists() == (won == "cancelled")
    assert Operation.objects.filter(kind="decide").count() == 1
    assert by_hand.is_intact(order)


def test_the_answer_and_the_decision_at_once_leave_one_story() -> None:
    order = asked()
    manual_work.decide(order, "asked", question="Which colour?")
    business_key = order.fulfillment.business_key

    def answer() -> str:
        signals.receive(
            source="a test",
            event_id="one",
            name=signals.ANSWERED,
            subject=signals.of_order(business_key=business_key),
            payload={"colour": "red"},
        )
        return "done"

    told = together(answer, lambda: outcome_of(lambda: manual_work.decide(order, "approved")))
    assert told == ["done", "done"]
    assert str(the_one(order).state) == "DECIDED"
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    assert by_hand.is_intact(order)
