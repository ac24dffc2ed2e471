"""Target systems that do exactly one thing per request and keep a ledger of what they did.

They are honest: a no means that nothing happened, and who deduplicates does so. Everything else
may go wrong: requests and answers get lost, jobs fail later, gateways are busy.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from adapters.contract import Capabilities, Command, Outcome, OutcomeKind
from adapters.registry import register_adapter
from fulfillment.engine.tasks.outcomes import NOT_SENT
from tests import desk
from tests.properties.model import Target


class Fate(enum.StrEnum):
    """What becomes of one request."""

    DONE = "done"
    DONE_UNHEARD = "done, and the answer is lost"
    TAKEN = "taken for later"
    TAKEN_UNHEARD = "taken for later, and the answer is lost"
    REFUSED = "refused"
    BUSY = "turned away for now"
    TURNED_AWAY = "turned away for good"
    LOST = "lost on the way"
    NOT_SENT = "never sent"


class Ending(enum.StrEnum):
    """What becomes of a job that was taken for later."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    FAILED_FOR_GOOD = "failed for good"


_UNHEARD = frozenset({Fate.DONE_UNHEARD, Fate.TAKEN_UNHEARD, Fate.LOST})
_OUTPUTS = {"number": "N-1"}
_DONE = desk.succeeded(**_OUTPUTS)
_ENDED = {
    Ending.DONE: _DONE,
    Ending.REFUSED: desk.rejected(),
    Ending.FAILED: desk.failed("job_failed"),
    Ending.FAILED_FOR_GOOD: desk.failed("job_failed", retryable=False),
}


@dataclass(frozen=True)
class Event:
    """A report on a job, sent once and delivered any number of times."""

    event_id: str
    target: str
    key: str
    outcome: Outcome
    send: int
    """The send that the job came from, counted per key."""


@dataclass
class World:
    targets: Mapping[str, Target]
    fates: deque[Fate] = field(default_factory=deque)
    """Of the requests to come, in order; when they are used up, everything is done at once."""
    log: list[tuple[Command, bool, Outcome]] = field(default_factory=list)
    """Every request: the command, whether it was a query, and what it was answered."""
    effects: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)
    unresolved: set[str] = field(default_factory=set)
    """Keys of which an earlier send may have had its effect, for all that the caller can know."""
    _sends: Counter[str] = field(default_factory=Counter)
    _known: dict[str, Outcome] = field(default_factory=dict)
    _working: dict[str, str] = field(default_factory=dict)
    """Keys of jobs under way, and their targets."""

    @property
    def jobs(self) -> list[str]:
        return list(self._working)

    def request(self, command: Command, *, query: bool) -> Outcome:
        fate = self.fates.popleft() if self.fates else Fate.DONE
        answer = self._queried(command, fate) if query else self._sent(command, fate)
        self.log.append((command, query, answer))
        return answer

    def end_job(self, key: str, ending: Ending) -> None:
        target = self._working.pop(key)
        if ending is Ending.DONE:
            self.effects[key] += 1
        self._known[key] = _ENDED[ending]
        event_id = f"E-{len(self.events)}"
        self.events.append(Event(event_id, target, key, _ENDED[ending], self._sends[key]))

    def deliver(self, event: Event) -> None:
        """The report has arrived; only one on the last send says that there was no effect."""
        if event.outcome.kind is OutcomeKind.FAILED and event.send == self._sends[event.key]:
            self.unresolved.discard(event.key)

    def _sent(self, command: Command, fate: Fate) -> Outcome:
        key, target = command.idempotency_key, self.targets[command.target]
        assert target.idempotent or key not in self.unresolved, (
            f"{command.target} can't deduplicate, and {command.action} is sent again although "
            "nobody knows what became of it"
        )
        if fate is Fate.NOT_SENT:
            return NOT_SENT
        if fate is Fate.BUSY:
            return desk.failed("busy", retry_after=timedelta(seconds=1))
        if fate is Fate.TURNED_AWAY:
            return desk.failed("bad_request", retryable=False)
        self.unresolved.add(key)
        self._sends[key] += 1
        answer = desk.unknown() if fate is Fate.LOST else self._acted(command, fate)
        if answer.kind is OutcomeKind.REJECTED:
            self.unresolved.discard(key)
        return desk.unknown() if fate in _UNHEARD else answer

    def _acted(self, command: Command, fate: Fate) -> Outcome:
        key = command.idempotency_key
        known = self._known.get(key)
        if self.targets[command.target].idempotent:
            if key in self._working:
                return desk.accepted()
            if known is not None and known.is_definitive:
                return known
        if fate in (Fate.TAKEN, Fate.TAKEN_UNHEARD):
            self._working[key] = command.target
            return desk.accepted()
        if fate is Fate.REFUSED:
            self._known[key] = desk.rejected()
        else:
            self.effects[key] += 1
            self._known[key] = _DONE
        return self._known[key]

    def _queried(self, command: Command, fate: Fate) -> Outcome:
        key = command.idempotency_key
        assert self.targets[command.target].status_query, f"{command.target} can't be asked"
        if fate not in (Fate.DONE, Fate.TAKEN, Fate.REFUSED):
            return desk.unknown("silent")
        answer = desk.accepted() if key in self._working else self._known.get(key)
        if answer is None or answer.kind is OutcomeKind.FAILED:
            self.unresolved.discard(key)
        return answer or desk.not_found()


@dataclass(frozen=True)
class _Door:
    in_process = True

    def send(self, *, command: Command) -> Outcome:
        return world.request(command, query=False)

    def query(self, *, command: Command) -> Outcome:
        return world.request(command, query=True)


def _door(*, target: str, settings: Mapping[str, Any], capabilities: Capabilities) -> _Door:
    return _Door()


register_adapter(kind="world", factory=_door)
world = World(targets={})


def new_world(targets: Mapping[str, Target]) -> World:
    """Another world, whose systems have not been asked anything yet."""
    global world
    world = World(targets=targets)
    return world
