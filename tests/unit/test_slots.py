"""The slots of a drain: calls one after the other, and what goes behind a call."""

from __future__ import annotations

import queue
import threading
from typing import cast

import pytest

from adapters.contract import Adapter, Command, Outcome, OutcomeKind
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.dispatch.slots import Result, Slots
from fulfillment.engine.tasks.outcomes import NOT_ASKED, NOT_SENT
from fulfillment.models import Purpose
from tests.waiting import until

WELL = Outcome(kind=OutcomeKind.SUCCEEDED)
BUSY = Outcome(kind=OutcomeKind.FAILED, code="busy", message="Not now.", retryable=True)
DOOR = cast(Adapter, object())
PATIENCE_SECONDS = 10.0


def claim_of(number: int, *, slot: int, purpose: Purpose = Purpose.SEND) -> Claim:
    return Claim(
        attempt_id=number,
        task_id=number,
        plan_id=1,
        fulfillment_id=1,
        node=0,
        element=0,
        purpose=purpose,
        command=cast(Command, None),
        send_before=0.0,
        slot=slot,
    )


class Desk:
    """Slots whose calls end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.answers: dict[int, queue.SimpleQueue[Outcome]] = {
            number: queue.SimpleQueue() for number in range(9)
        }
        self.results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._changed = threading.Lock()
        self.slots = Slots(name="alpha", call=self._call, arrived=self.results.put)

    def _call(self, adapter: Adapter, claim: Claim) -> Outcome:
        with self._changed:
            self.begun.append(claim.attempt_id)
        return self.answers[claim.attempt_id].get(timeout=PATIENCE_SECONDS)

    def begin(self, *claims: Claim, of: int = 2) -> None:
        for claim in claims:
            self.slots.begin(DOOR, claim, of=of)

    def answer(self, number: int, outcome: Outcome = WELL) -> None:
        self.answers[number].put(outcome)

    def arrived(self) -> tuple[int, Outcome]:
        """The next result, which is over with that."""
        claim, outcome = self.results.get(timeout=PATIENCE_SECONDS)
        self.slots.ended([claim])
        return claim.attempt_id, outcome

    def one_call(self) -> None:
        """After it, it is known that calls are quick."""
        self.begin(claim_of(0, slot=0))
        self.answer(0)
        assert self.arrived() == (0, WELL)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_free_slot_calls_at_once(desk: Desk) -> None:
    desk.begin(claim_of(1, slot=0), claim_of(2, slot=1))
    until(lambda: sorted(desk.begun) == [1, 2])
    assert desk.slots.room(of=2).all == 0
    desk.answer(2)
    assert desk.arrived() == (2, WELL)
    assert list(desk.slots.room(of=2).slots) == [1]
    desk.answer(1)
    assert desk.arrived() == (1, WELL)


def test_what_goes_behind_a_call_waits_for_it(desk: Desk) -> None:
    desk.one_call()
    desk.begin(claim_of(1, slot=0), claim_of(2, slot=1), claim_of(3, slot=0))
    until(lambda: sorted(desk.begun) == [0, 1, 2])
    assert desk.slots.room(of=2).soon == [1]
    desk.answer(1)
    assert desk.arrived() == (1, WELL)
    until(lambda: desk.begun[-1] == 3)
    desk.answer(3)
    desk.answer(2)
    assert {desk.arrived()[0], desk.arrived()[0]} == {2, 3}
    assert list(desk.slots.room(of=2).slots) == [0, 1]


def test_nothing_goes_behind_before_a_call_was_seen(desk: Desk) -> None:
    room = desk.slots.room(of=2)
    assert (room.calls, room.all) == (2, 2)
    desk.one_call()
    assert desk.slots.room(of=2).all == 4


def test_nothing_goes_behind_slow_calls(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fulfillment.engine.dispatch.slots._SOON_SECONDS", 0.0)
    desk.one_call()
    assert desk.slots.room(of=2).all == 2


def test_nothing_goes_behind_where_many_calls_are_under_way(desk: Desk) -> None:
    desk.one_call()
    assert desk.slots.room(of=8).all == 16
    assert desk.slots.room(of=9).all == 9


def test_behind_a_failure_nothing_is_sent(desk: Desk) -> None:
    desk.one_call()
    desk.begin(claim_of(1, slot=0), claim_of(2, slot=0))
    desk.answer(1, BUSY)
    assert desk.arrived() == (1, BUSY)
    assert desk.arrived() == (2, NOT_SENT)
    assert 2 not in desk.begun
    desk.begin(claim_of(3, slot=0))
    desk.answer(3)
    assert desk.arrived() == (3, WELL)


def test_when_it_closes_what_waits_is_given_back(desk: Desk) -> None:
    desk.one_call()
    desk.begin(claim_of(1, slot=0), claim_of(2, slot=0))
    until(lambda: desk.begun[-1] == 1)
    desk.slots.close()
    desk.answer(1)
    assert desk.arrived() == (1, WELL)
    assert desk.arrived() == (2, NOT_SENT)


def test_a_question_that_is_given_back_was_not_asked(desk: Desk) -> None:
    """Otherwise it would pass for an answer: that what had been sent did not happen."""
    desk.slots.close()
    desk.begin(claim_of(1, slot=0, purpose=Purpose.QUERY))
    assert desk.arrived() == (1, NOT_ASKED)
    assert desk.begun == []
