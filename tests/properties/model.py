"""What the orchestrator promises about one order, small enough to be seen to be right.

No clock, no database, no batches: a task is a state and a few counters, and everything that is
heard about it is one call of `hear`. docs/states.md says the same in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SUCCESSFUL = {"SUCCEEDED", "SKIPPED_BY_POLICY"}
TERMINAL = SUCCESSFUL | {"FAILED_FINAL"}
CLAIMABLE = {"READY", "FAILED_RETRYABLE", "OUTCOME_UNKNOWN"}
IN_DOUBT = {"DISPATCHED", "ACCEPTED", "OUTCOME_UNKNOWN"}
MOVING = CLAIMABLE | IN_DOUBT
NEVER_ARRIVED_LIMIT = 10
LOST_LEASES_LIMIT = 3


@dataclass(frozen=True)
class Target:
    """What a target system can do when an outcome is not known."""

    idempotent: bool
    status_query: bool
    maximum_queries: int = 3


@dataclass(frozen=True)
class Told:
    """An outcome, as far as it matters here."""

    kind: str
    retryable: bool = False
    not_sent: bool = False
    """Our own worker never made the call."""
    lost: bool = False
    """The worker that made the call went away with it."""
    timeout: bool = False
    """It is not known because a time was up, and for no other reason."""


@dataclass(frozen=True)
class Heard:
    """An answer to an attempt, a lost one, or (without `attempt`) a report from outside."""

    key: str
    told: Told
    attempt: int | None = None
    query: bool = False
    command: int = 1
    """Which of the task's commands it speaks of, counted from 1."""


@dataclass
class Task:
    target: Target
    after: frozenset[str] = frozenset()
    required: bool = True
    maximum_attempts: int = 3
    state: str = "PENDING"
    attempts: int = 0
    """Sends and queries together."""
    sends: int = 0
    """Sends that count: those that never left or never arrived do not."""
    left: int = 0
    """Sends that may arrive, however late: all but those that our worker never made."""
    unanswered: int = 0
    lost: int = 0
    """Workers in a row that went away with it."""
    doubted: bool = False
    """It was sent again although nobody knows what became of an earlier send."""
    locks: Mapping[str, int] = field(default_factory=dict)
    """Name -> units, from its first send to its end; see `model_locks`."""
    behind: int = 0
    """Milliseconds by which it stands behind the rank of its order."""
    command: int = 1
    """The one that counts; of those before it all is known."""

    def claim(self) -> bool:
        """A worker takes it; True when it is to be asked about and not sent."""
        assert self.state in CLAIMABLE, f"claimed while {self.state}"
        self.attempts += 1
        if self.state == "OUTCOME_UNKNOWN":
            return True
        self.state = "DISPATCHED"
        self.sends += 1
        self.left += 1
        return False

    def hear(self, told: Told, *, attempt: int | None, query: bool) -> None:
        if self.state in TERMINAL:
            return
        self.left -= told.not_sent
        if told.lost:
            self.lost += 1
        elif attempt is not None and not query:
            self.lost = 0
        if told.kind in ("SUCCEEDED", "REJECTED"):
            self.state = "SUCCEEDED" if told.kind == "SUCCEEDED" else "FAILED_FINAL"
            return
        # The rest is about one attempt only: an overtaken one has nothing to say.
        if attempt not in (None, self.attempts) or self.state not in IN_DOUBT:
            return
        if query and self.state != "OUTCOME_UNKNOWN":
            return
        if told.kind == "ACCEPTED":
            self.state = "ACCEPTED"
        elif told.kind == "NOT_FOUND":
            self._never_arrived()
        elif told.kind == "FAILED":
            self._had_no_effect(told, reported=attempt is None)
        elif told.lost and self.lost >= LOST_LEASES_LIMIT:
            self.state = "AWAITING_MANUAL"
        elif query:
            self.unanswered += 1
            if self.unanswered >= self.target.maximum_queries:
                self.state = "AWAITING_MANUAL"
        else:
            self._lose_track(told)

    def _never_arrived(self) -> None:
        self.sends -= 1
        given_up = self.attempts >= NEVER_ARRIVED_LIMIT * self.maximum_attempts
        self.state = "FAILED_FINAL" if given_up else "READY"

    def _had_no_effect(self, told: Told, *, reported: bool) -> None:
        if reported and self.left > 1:
            # It may speak of an earlier send than the last one, whose own answer is to come.
            if self.state != "DISPATCHED":
                self._lose_track(told)
            return
        self.sends -= told.not_sent
        if told.retryable and self.sends < self.maximum_attempts:
            self.state = "FAILED_RETRYABLE"
        else:
            self.state = "AWAITING_MANUAL" if self.doubted else "FAILED_FINAL"

    def _lose_track(self, told: Told) -> None:
        if self.state == "OUTCOME_UNKNOWN":
            return
        self.unanswered = 0
        if self.target.status_query:
            self.state = "OUTCOME_UNKNOWN"
        elif self.target.idempotent and self.sends < self.maximum_attempts:
            self.state, self.doubted = "READY", True
        else:
            self.state = "AWAITING_MANUAL"


@dataclass
class Plan:
    """The tasks of one order. With `fast_path` off, what became runnable waits for a scan."""

    tasks: Mapping[str, Task]
    fast_path: bool
    locks: Mapping[str, int] = field(default_factory=dict)
    """Name -> units, from the first send of any task to the end of all."""
    priority: int = 0
    rank: int = 0
    held: bool = field(default=False, init=False)
    """While it is, its tasks are asked about and not sent."""
    selection_due: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._select_or_defer()

    def hear(self, *heard: Heard) -> None:
        """What one settlement takes in together."""
        succeeded = set()
        for one in heard:
            task = self.tasks[one.key]
            if one.command != task.command:
                continue
            before = task.state
            task.hear(one.told, attempt=one.attempt, query=one.query)
            if task.state == "SUCCEEDED" != before:
                succeeded.add(one.key)
        if any(succeeded & task.after for task in self.tasks.values()):
            self._select_or_defer()
        self._skip_what_will_never_run()

    def scan(self) -> None:
        if self.selection_due:
            self.selection_due = False
            self._select()
            self._skip_what_will_never_run()

    @property
    def state(self) -> str:
        if self.selection_due or self.moving:
            return "RUNNING"
        return "BLOCKED" if self.tasks_open or self.mandatory_open else "COMPLETED"

    @property
    def moving(self) -> int:
        return sum(task.state in MOVING for task in self.tasks.values())

    @property
    def tasks_open(self) -> int:
        return sum(task.state not in TERMINAL for task in self.tasks.values())

    @property
    def mandatory_open(self) -> int:
        return sum(t.required and t.state not in SUCCESSFUL for t in self.tasks.values())

    def runnable(self, key: str) -> bool:
        return all(self.tasks[name].state in SUCCESSFUL for name in self.tasks[key].after)

    def _select_or_defer(self) -> None:
        if self.fast_path:
            self._select()
        else:
            self.selection_due = True

    def _select(self) -> None:
        for key, task in self.tasks.items():
            if task.state == "PENDING" and self.runnable(key):
                task.state = "READY"

    def _skip_what_will_never_run(self) -> None:
        """Once all that is needed is there, optional tasks behind a failed one are skipped."""
        if self.selection_due or self.moving or self.mandatory_open:
            return
        for key, task in self.tasks.items():
            if task.state == "PENDING" and self._behind_a_failure(key):
                task.state = "SKIPPED_BY_POLICY"

    def _behind_a_failure(self, key: str) -> bool:
        return any(
            self.tasks[name].state == "FAILED_FINAL" or self._behind_a_failure(name)
            for name in self.tasks[key].after
        )
