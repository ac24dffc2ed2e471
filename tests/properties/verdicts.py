"""What has to become of a plan, worked out from what its target systems do. No engine in here.

A task has a script: what its target does at the first send, the second, and so on; when it is used
up, everything succeeds. Time plays no part, nor does the order in which things are looked at:
whatever the engine does when, the end must be this one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from fulfillment.states import TaskState


class Deed(enum.StrEnum):
    """What a target does with one send, and what the sender learns of it."""

    DONE = "done"
    REFUSED = "refused"
    BUSY = "no effect, try again"
    BROKEN = "no effect, don't"
    DONE_IN_SILENCE = "done, and the answer is lost"
    NOTHING_IN_SILENCE = "not done, and no answer"
    DONE_AND_SENDER_DIES = "done, and the sender dies before it can tell"
    NOTHING_AND_SENDER_DIES = "the sender dies before it has sent"
    ACCEPTED = "done later, and reported"


EFFECTIVE = frozenset({Deed.DONE, Deed.DONE_IN_SILENCE, Deed.DONE_AND_SENDER_DIES, Deed.ACCEPTED})
UNTOLD = frozenset(
    {
        Deed.DONE_IN_SILENCE,
        Deed.NOTHING_IN_SILENCE,
        Deed.DONE_AND_SENDER_DIES,
        Deed.NOTHING_AND_SENDER_DIES,
    }
)


@dataclass(frozen=True, kw_only=True)
class System:
    """What a target can do about an outcome that nobody knows."""

    idempotent: bool
    status_query: bool


@dataclass(frozen=True, kw_only=True)
class Step:
    """One task: what it needs, whether the order needs it, and its script."""

    name: str
    after: tuple[str, ...]
    required: bool
    system: str
    script: tuple[Deed, ...]


def verdict(*, step: Step, system: System, attempts: int) -> TaskState:
    """How a task ends once it is reached, when `attempts` sends are allowed."""
    done = in_doubt = False
    sends = 0
    for deed in _deeds(step.script):
        sends += 1
        if system.idempotent and done and deed not in UNTOLD | {Deed.BUSY, Deed.BROKEN}:
            deed = Deed.DONE  # it repeats its first answer
        done = done or deed in EFFECTIVE
        if deed in (Deed.DONE, Deed.ACCEPTED):
            return TaskState.SUCCEEDED
        if deed is Deed.REFUSED:
            return TaskState.FAILED_FINAL
        if deed is Deed.BUSY and sends < attempts:
            continue
        if deed in (Deed.BUSY, Deed.BROKEN):
            # That this send had no effect says nothing about the one before.
            return TaskState.AWAITING_MANUAL if in_doubt else TaskState.FAILED_FINAL
        if system.status_query:
            if done:
                return TaskState.SUCCEEDED
            sends -= 1  # it never arrived, so it does not count
            continue
        in_doubt = True
        if not system.idempotent or sends >= attempts:
            return TaskState.AWAITING_MANUAL
    raise AssertionError("every script ends in success")


def _deeds(script: Sequence[Deed]) -> Iterator[Deed]:
    return chain(script, repeat(Deed.DONE))


def outcome(
    *, steps: Sequence[Step], systems: Mapping[str, System], attempts: int
) -> tuple[bool, dict[str, TaskState]]:
    """Whether the order completes, and the final state of every task.

    `steps` stand in an order in which each comes after what it needs.
    """
    states: dict[str, TaskState] = {}
    for step in steps:
        if all(states[name] is TaskState.SUCCEEDED for name in step.after):
            states[step.name] = verdict(step=step, system=systems[step.system], attempts=attempts)
        else:
            states[step.name] = TaskState.PENDING
    if any(states[step.name] is not TaskState.SUCCEEDED for step in steps if step.required):
        return False, states
    # What stands behind a failure will never come; what stands behind a person may.
    lost = {name for name, state in states.items() if state is TaskState.FAILED_FINAL}
    for step in steps:
        if states[step.name] is TaskState.PENDING and lost.intersection(step.after):
            states[step.name] = TaskState.SKIPPED_BY_POLICY
            lost.add(step.name)
    finished = {TaskState.SUCCEEDED, TaskState.FAILED_FINAL, TaskState.SKIPPED_BY_POLICY}
    return all(state in finished for state in states.values()), states
