"""What the orchestrator promises about time: the clocks of a task and of its order.

Every clock is what is left of it, in minutes; it has run out below zero. Those that the customer
was promised stand still while the order does, those of a target system never. docs/states.md and
docs/workflows.md say the same in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.properties import model
from tests.properties.model import MOVING, NEVER_ARRIVED_LIMIT, Told

SENDABLE = {"READY", "FAILED_RETRYABLE"}
TIMED_OUT = Told("UNKNOWN", timeout=True)
Pair = tuple[int, int]
"""Minutes: usually, and while the order is in jeopardy."""


@dataclass(frozen=True)
class Limits:
    """How long each clock of a task runs, in minutes, and what follows; None never runs out."""

    callback: int = 45
    start_to_close: int | None = None
    heartbeat: int | None = None
    schedule_to_start: Pair | None = None
    schedule_to_close: Pair | None = None
    when_sent: str = "resolve"
    when_unsent: str = "escalate"


@dataclass
class Task(model.Task):
    limits: Limits = field(default_factory=Limits)
    to_start: int | None = None
    """Until it has to be sent for the first time."""
    to_close: int | None = None
    """Until it has to have ended, over all attempts."""
    to_result: int | None = None
    """Until the last send has to have come to something."""
    to_report: int | None = None
    """Until what was accepted has to have been reported."""
    to_sign: int | None = None
    """Until its target system has to give another sign of life."""
    since: int = 0
    """Minutes since it might be sent for the first time, by its newest command at the earliest."""
    still: bool = False
    """The clocks that the customer was promised stand still."""
    late: bool = False
    """Its time for all attempts is up."""
    told: bool = False
    """A person knows that it is late."""
    progress: int | None = None
    """The latest that its target system has told of; handed over with the next send."""
    calls_before: int = 0

    # --- time passes --------------------------------------------------------------------------

    def begin(self, *, in_jeopardy: bool) -> None:
        """Whatever begins anew has fresh clocks."""
        self.to_start = _of(self.limits.schedule_to_start, in_jeopardy)
        self.to_close = _of(self.limits.schedule_to_close, in_jeopardy)
        self.to_result = self.to_report = self.to_sign = None
        self.late = self.told = False
        self.since = 0

    def rerun(self, *, in_jeopardy: bool) -> None:
        """A person has it tried again, under a key of its own."""
        assert self.state == "FAILED_FINAL"
        self.state = "READY"
        self.sends = self.left = self.unanswered = self.lost = 0
        self.doubted = False
        self.command += 1
        self.calls_before = self.attempts
        self.begin(in_jeopardy=in_jeopardy)

    def hurry(self, *, in_jeopardy: bool) -> None:
        """The order has come into jeopardy, or out of it: what runs gains or loses by it."""
        self.to_start = _moved(self.to_start, self.limits.schedule_to_start, in_jeopardy)
        self.to_close = _moved(self.to_close, self.limits.schedule_to_close, in_jeopardy)

    def advance(self, minutes: int) -> None:
        self.since += minutes
        self.to_result = _less(self.to_result, minutes)
        self.to_report = _less(self.to_report, minutes)
        self.to_sign = _less(self.to_sign, minutes)
        if not self.still:
            self.to_start = _less(self.to_start, minutes)
            self.to_close = _less(self.to_close, minutes)

    def ring(self) -> bool:
        """Act on a clock that has run out, if one has."""
        if self._closing and self.state in MOVING - {"DISPATCHED"}:
            self._end()
        elif _out(self.to_start) and not self.still and self.state in SENDABLE:
            self.to_start = None
            self._give_up_or_tell()
        elif self.state == "ACCEPTED" and (_out(self.to_report) or _out(self.to_sign)):
            self._lose_track(TIMED_OUT)
        else:
            return False
        return True

    def _end(self) -> None:
        self.late = True
        self.to_start = self.to_close = None
        if self.state == "ACCEPTED":
            self._lose_track(TIMED_OUT)
        elif self.state in SENDABLE and not self.doubted:
            self._give_up_or_tell()
        elif self.limits.when_sent == "escalate":
            self.state = "AWAITING_MANUAL"
        elif self.state in SENDABLE:
            self.told = True

    def _give_up_or_tell(self) -> None:
        """Nothing has happened, for certain."""
        if self.limits.when_unsent == "cancel":
            self.state = "FAILED_FINAL"
        else:
            self.told = True

    @property
    def _closing(self) -> bool:
        return _out(self.to_close) and not self.still

    @property
    def _given_up(self) -> bool:
        """Once it is known that nothing has happened, it is not sent again."""
        return self.limits.when_unsent == "cancel" and (self.late or self._closing)

    # --- something is heard ---------------------------------------------------------------------

    def claim(self) -> bool:
        query = super().claim()
        if not query:
            self.to_result = self.limits.start_to_close
        return query

    def hear(self, told: Told, *, attempt: int | None, query: bool) -> None:
        before = self.state
        if self.sends and not told.not_sent:
            self.to_start = None  # It has begun, or may have.
        super().hear(told, attempt=attempt, query=query)
        if self.state == "ACCEPTED" != before:
            self.to_report = self.limits.callback
            if self.to_result is not None and not _out(self.to_result):
                self.to_report = min(self.to_report, self.to_result)
            self.to_sign = self.limits.heartbeat

    def show_life(self, progress: int) -> None:
        """No change of state; it puts off the heartbeat, and no other clock."""
        if self.state in model.TERMINAL:
            return
        self.progress = progress
        if self.state == "ACCEPTED":
            self.to_sign = self.limits.heartbeat

    @property
    def to_look(self) -> int:
        """Until something has to be heard of what was accepted."""
        return min(one for one in (self.to_report, self.to_sign) if one is not None)

    def _never_arrived(self) -> None:
        if self._given_up:
            self.state = "FAILED_FINAL"
            return
        self.sends -= 1
        calls = self.attempts - self.calls_before
        over = calls >= NEVER_ARRIVED_LIMIT * self.maximum_attempts
        self.state = "FAILED_FINAL" if over else "READY"

    def _had_no_effect(self, told: Told, *, reported: bool) -> None:
        again = told.retryable and not self._given_up
        super()._had_no_effect(replace(told, retryable=again), reported=reported)

    def _lose_track(self, told: Told) -> None:
        if self.state == "OUTCOME_UNKNOWN":
            return
        follows = self.limits.when_sent if told.timeout else "resolve"
        may_send = self.target.idempotent and self.sends < self.maximum_attempts
        if follows == "escalate":
            self.state = "AWAITING_MANUAL"
        elif follows == "retry" and may_send:
            self.state, self.unanswered = "READY", 0
        else:
            super()._lose_track(told)
        if self.limits.when_sent == "retry":
            # It may be sent unasked at any time: what was lost once stays lost.
            self.doubted = True


@dataclass
class Plan(model.Plan):
    """With times in minutes from now, and jeopardy by how long its tasks usually take."""

    tasks: Mapping[str, Task]
    deadline: int | None = None
    promise: int | None = None
    usual: Mapping[str, int] = field(default_factory=dict)
    """Minutes that each task takes, from when it may be sent to its end."""
    urgent: int | None = None
    """Its priority while it is in jeopardy, where that makes a difference."""
    asked: int = field(default=0, init=False)
    late: bool = field(default=False, init=False)
    in_jeopardy: bool = field(default=False, init=False)
    to_look: float | None = field(default=None, init=False)
    """Until it is estimated: before that it can't be in jeopardy."""
    estimate: int | None = field(default=None, init=False)
    still: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.asked = self.priority
        if self.promise is not None:
            self.to_look = max(0, self.promise - self.longest_path())
        super().__post_init__()

    def stand_still(self, still: bool) -> None:
        self.still = still
        for task in self.tasks.values():
            task.still = still

    def advance(self, minutes: int) -> None:
        if not self.still:
            self.deadline = _less(self.deadline, minutes)
            self.promise = _less(self.promise, minutes)
        if self.to_look is not None:
            self.to_look -= minutes
        for task in self.tasks.values():
            if task.state in MOVING | {"AWAITING_MANUAL"}:
                task.advance(minutes)

    def ring(self) -> set[str]:
        """Act on everything that has run out; the tasks of which a person has been told now."""
        before = {key for key, task in self.tasks.items() if task.told}
        for task in self.tasks.values():
            while task.ring():
                pass
        self._skip_what_will_never_run()
        if _out(self.deadline) and not self.still and self.state != "COMPLETED":
            self.late, self.deadline = True, None
        return {key for key, task in self.tasks.items() if task.told} - before

    def rerun(self, key: str) -> None:
        self.tasks[key].rerun(in_jeopardy=self.in_jeopardy)

    def _select(self) -> None:
        waiting = [key for key, task in self.tasks.items() if task.state == "PENDING"]
        super()._select()
        for key in waiting:
            if self.tasks[key].state == "READY":
                self.tasks[key].begin(in_jeopardy=self.in_jeopardy)

    # --- jeopardy -------------------------------------------------------------------------------

    def look(self) -> bool:
        """Estimate it, if it is time to: in jeopardy is what will be done later than promised."""
        if self.to_look is None or self.to_look > 0:
            return False
        if self.state == "COMPLETED":
            self.to_look = None
            return False
        assert self.promise is not None
        self.estimate = self.longest_path()
        slack = self.promise - self.estimate
        self.to_look = slack if slack >= 0 else min(max(1, -slack / 10), 60)
        if self.in_jeopardy != (slack < 0):
            self.in_jeopardy = slack < 0
            if self.urgent is not None:
                self.priority = self.urgent if self.in_jeopardy else self.asked
            for task in self.tasks.values():
                if task.state in MOVING | {"AWAITING_MANUAL"}:
                    task.hurry(in_jeopardy=self.in_jeopardy)
        return True

    def longest_path(self) -> int:
        """Minutes until the last task that is needed has ended, if all goes on as usual."""
        ends: dict[str, int] = {}

        def end(key: str) -> int:
            if key not in ends:
                ends[key] = self._end(key, max(map(end, self.tasks[key].after), default=0))
            return ends[key]

        return max((end(key) for key, task in self.tasks.items() if task.required), default=0)

    def _end(self, key: str, begins: int) -> int:
        task = self.tasks[key]
        if task.state in model.SUCCESSFUL:
            return 0
        if task.state == "FAILED_FINAL" and not task.required:
            return 0
        if task.state in ("DISPATCHED", "ACCEPTED"):
            return max(0, self.usual[key] - task.since)
        return begins + self.usual[key]


def _of(pair: Pair | None, in_jeopardy: bool) -> Any:
    return None if pair is None else pair[in_jeopardy]


def _moved(left: int | None, pair: Pair | None, in_jeopardy: bool) -> int | None:
    if left is None or pair is None:
        return left
    return left + pair[in_jeopardy] - pair[not in_jeopardy]


def _less(left: int | None, minutes: int) -> int | None:
    return None if left is None else left - minutes


def _out(left: int | None) -> bool:
    return left is not None and left < 0
