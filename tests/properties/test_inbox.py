"""Reports in any number and any order, before, between and after our own answers.

A few lines say what must become of the task; each event is stored once, and told what it did.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoDbBlocker

from adapters.contract import Outcome, OutcomeKind
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.work import audit
from fulfillment.models import Command, InboundEvent, Task, Transition
from tests import desk
from tests.properties.search import search

SETTLED = {"SUCCEEDED", "FAILED_FINAL"}
_REPORTED = [
    *(desk.succeeded(), desk.rejected(), desk.failed(), desk.failed(retryable=False)),
]
_ANSWERED = [*_REPORTED, desk.accepted(), desk.unknown()]


@dataclass(frozen=True)
class Event:
    """Something that a target system reports, however often."""

    outcome: Outcome
    attempt: int | None


@dataclass(frozen=True)
class Deliver:
    event: int


@dataclass(frozen=True)
class Answer:
    """Our own call, the newest first, hears what became of it."""

    back: int
    outcome: Outcome


@dataclass(frozen=True)
class SendAgain:
    """If it is to be tried again."""


def after(*, state: str, outcome: Outcome, attempt: int | None, sends: int) -> str:
    """What must become of a task that was sent `sends` times, once it hears of `attempt`.

    `attempt` counts its sends; None is a report that does not say which one it speaks of.
    """
    if state in SETTLED:
        return state
    if outcome.kind is OutcomeKind.SUCCEEDED:
        return "SUCCEEDED"
    if outcome.kind is OutcomeKind.REJECTED:
        return "FAILED_FINAL"
    if attempt not in (None, sends) or state == "FAILED_RETRYABLE":
        return state
    if outcome.kind is OutcomeKind.ACCEPTED:
        return "ACCEPTED"
    if outcome.kind is OutcomeKind.UNKNOWN:
        return "OUTCOME_UNKNOWN"
    if attempt is None and sends > 1:
        return state if state == "DISPATCHED" else "OUTCOME_UNKNOWN"
    return "FAILED_RETRYABLE" if outcome.retryable else "FAILED_FINAL"


@dataclass
class Run:
    """The engine and what it ought to do, step by step."""

    events: list[Event]
    state: str = "DISPATCHED"
    claims: list[Claim] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)
    told: dict[int, str] = field(default_factory=dict)

    def begin(self, *, idempotent: bool) -> None:
        desk.fresh_systems()
        desk.target("alpha", asynchronous=True, idempotent=idempotent)
        desk.workflow({"one": desk.task(retry={"maximum_attempts": 20})})
        desk.order()
        self.claims = desk.claim()

    def take(self, step: Deliver | Answer | SendAgain) -> None:
        match step:
            case Deliver(number):
                self._deliver(number)
            case Answer(back, outcome):
                self._answer(len(self.claims) - 1 - back % len(self.claims), outcome)
            case SendAgain() if self.state == "FAILED_RETRYABLE":
                desk.advance(3600)
                self.claims += desk.claim()
                self.state = "DISPATCHED"
        assert Task.objects.get().state == self.state, step

    def _deliver(self, number: int) -> None:
        event = self.events[number % len(self.events)]
        receipt = callbacks.receive(
            report=callbacks.Report(
                source="alpha",
                event_id=f"E-{event.outcome.kind}-{self.events.index(event)}",
                idempotency_key=Command.objects.get().idempotency_key,
                outcome=event.outcome,
                attempt=event.attempt,
                body={},
            )
        )
        is_new = self.events.index(event) not in self.told
        if is_new:
            self.told[self.events.index(event)] = self._hears(event)
        assert receipt.duplicate is not is_new
        assert receipt.disposition == self.told[self.events.index(event)]

    def _hears(self, event: Event) -> str:
        """Its disposition."""
        before, sends = self.state, len(self.claims)
        attempt = event.attempt if event.attempt in range(1, sends + 1) else None
        self.state = after(state=before, outcome=event.outcome, attempt=attempt, sends=sends)
        good = event.outcome.kind is OutcomeKind.SUCCEEDED
        if before in SETTLED and event.outcome.is_definitive and good != (before == "SUCCEEDED"):
            return "CONFLICTING"
        return "REDUNDANT" if self.state == before else "APPLIED"

    def _answer(self, number: int, outcome: Outcome) -> None:
        if number in self.answered:
            return
        self.answered.add(number)
        desk.settle(desk.result(self.claims[number], outcome))
        self.state = after(
            state=self.state, outcome=outcome, attempt=number + 1, sends=len(self.claims)
        )


_EVENTS = st.lists(
    st.builds(Event, st.sampled_from(_REPORTED), st.sampled_from([None, 1, 2, 7])),
    min_size=1,
    max_size=4,
    unique_by=lambda event: (event.outcome.kind, event.outcome.retryable, event.attempt),
)
_SENT_AGAIN = (Answer(0, desk.failed()), SendAgain())
_BEGINNINGS = st.sampled_from(
    [(), _SENT_AGAIN, (*_SENT_AGAIN, Answer(0, desk.accepted())), (*_SENT_AGAIN, *_SENT_AGAIN)]
)
_STEPS = st.lists(
    st.one_of(
        st.builds(Deliver, st.integers(0, 3)),
        st.builds(Deliver, st.integers(0, 3)),
        st.builds(Answer, st.integers(0, 2), st.sampled_from(_ANSWERED)),
        st.just(SendAgain()),
    ),
    max_size=10,
)


@search(quick=200)
@given(events=_EVENTS, beginning=_BEGINNINGS, steps=_STEPS, idempotent=st.booleans())
def test_whatever_is_reported_in_whatever_order_the_task_ends_where_it_must(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    events: list[Event],
    beginning: tuple[Answer | SendAgain, ...],
    steps: list[Deliver | Answer | SendAgain],
    idempotent: bool,
) -> None:
    with django_db_blocker.unblock(), transaction.atomic():
        run = Run(events)
        run.begin(idempotent=idempotent)
        for step in (*beginning, *steps):
            run.take(step)
        stored = InboundEvent.objects.values_list("event_id", "disposition")
        assert sorted(disposition for _, disposition in stored) == sorted(run.told.values())
        settled = Transition.objects.filter(entity="task", to_state__in=SETTLED)
        assert settled.exclude(name="conflicting_outcome").count() == (run.state in SETTLED)
        assert audit.verify(fulfillment_id=Task.objects.get().fulfillment_id) == []
        transaction.set_rollback(True)
