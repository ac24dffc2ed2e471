"""Places where tests let the process die, to see that nothing is lost or done twice.

`OMS_FAILPOINTS=sending.after_send@3` kills it at the third time that it comes by there,
`unit.before_commit%5:seed` with a chance of 5 % each time; several stand with commas between.
Without the variable a failpoint is one look at an empty table.

The dice are thrown from the seed, the place and OMS_FAILPOINTS_RUN, which whoever starts
processes counts up: each dies elsewhere, and all of them die where they died the last time.
Without it the process id takes its place, so that a process which is started again does not
die at the same step for ever.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

POINTS: Mapping[str, str] = {
    "unit.before_flush": "everything is decided, nothing is written",
    "unit.before_commit": "everything is written, nothing is committed",
    "unit.after_commit": "committed; no worker has been told",
    "sending.before_claim": "the message is taken from the queue, nothing is claimed",
    "sending.before_send": "the claim is committed, nothing is sent",
    "sending.after_send": "the target's reply is in memory only",
    "sending.after_query": "the target, asked, has answered; nothing is recorded",
    "settlement.before_successors": "results are applied to their tasks, nothing follows yet",
    "settlement.inside": "results and what follows from them are decided, all in memory",
    "feasibility.before_deciding": "a target has said whether an order can be done; not recorded",
    "locking.released_not_called_up": "a lock is free, committed; nobody knows that it is his turn",
    "locking.calling_up": "the next in line are called up, nothing is committed",
    "locking.called_up": "the next in line are called up, committed; no worker has been told",
    "scanning.holding_rows": "the scanner holds its rows locked",
    "sweeping.before_settling": "the sweeper has found lost leases and done nothing about them",
    "deciding.decided": "a person has decided, and nothing follows from it yet",
    "rest.put_off": "plans that may rest by now are to be looked at; nobody has decided yet",
    "rest.before_undo": "nothing of a failed plan is under way any more; nothing is undone yet",
    "cancelling.decided": "an order may be cancelled; nothing of it has been given up yet",
    "bulk.leased": "rows of a bulk job are taken, none is done",
    "bulk.done_not_committed": "a row of a bulk job is done and marked so, nothing is committed",
    "bulk.foreseen_not_written": "rows of a bulk job were looked at; nothing is kept of it yet",
    "migrating.superseded": "a plan has been superseded, and its successor does not exist yet",
    "callback.stored_not_applied": "a report is in the inbox, its task has not moved",
    "callback.committed_before_200": "a report is dealt with, its sender has not been told",
    "signal.stored_not_applied": "a milestone or signal is kept, and nobody has been told",
    "signal.applied_not_marked": "whoever waited for it has been told; it is not marked as told",
    "outbox.claimed_before_send": "events are chosen, none is sent",
    "outbox.streamed_before_marked": "events are in the stream, and not marked as published",
    "outbox.sent_before_marked": "a subscriber has an event, and it is not marked as delivered",
    "mailing.claimed_before_send": "e-mail to customers is chosen, none is sent",
    "mailing.sent_before_marked": "the mail server has a message, and it is not marked as sent",
    "replies.popped_before_recorded": "a reply is taken from its queue, and not in the inbox",
    "replies.recorded_before_acked": "a reply is in the inbox, and not acknowledged",
}
"""Every failpoint, and how things stand there."""

_FORM = re.compile(
    r"(?P<name>[a-z_.0-9]+)(@(?P<pass>[1-9]\d*)|%(?P<percent>\d+(\.\d+)?):(?P<seed>\w+))?"
)


class FailpointInvalid(Exception):
    """OMS_FAILPOINTS can't be read; the message says what stands there and what may."""

    code = "fulfillment.failpoint_invalid"


@dataclass(slots=True)
class _Armed:
    """One failpoint that kills: after `left` passes, or by chance."""

    left: int = 0
    chance: float = 0.0
    dice: random.Random = field(default_factory=random.Random)

    def strikes(self) -> bool:
        if self.chance:
            return self.dice.random() < self.chance
        self.left -= 1
        return self.left == 0


def parse(text: str, *, run: str) -> dict[str, _Armed]:
    """What OMS_FAILPOINTS arms, by name. Raises FailpointInvalid."""
    armed = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = _FORM.fullmatch(part)
        if match is None:
            raise FailpointInvalid(
                f"OMS_FAILPOINTS holds {part!r}; write name, name@3 (the third pass) or "
                "name%5:seed (5 % of the passes)."
            )
        name = match["name"]
        if name not in POINTS:
            raise FailpointInvalid(
                f"OMS_FAILPOINTS names {name!r}, which does not exist. There are: "
                f"{', '.join(POINTS)}."
            )
        if match["percent"] is None:
            armed[name] = _Armed(left=int(match["pass"] or 1))
        else:
            dice = random.Random(f"{match['seed']}/{name}/{run}")  # noqa: S311 (no secret)
            armed[name] = _Armed(chance=float(match["percent"]) / 100, dice=dice)
    return armed


def _from_environment() -> dict[str, _Armed]:
    text = os.environ.get("OMS_FAILPOINTS", "")
    return parse(text, run=os.environ.get("OMS_FAILPOINTS_RUN") or str(os.getpid()))


def _arm_again() -> None:
    """A fork throws dice of its own."""
    global _armed, _lock
    _lock = threading.Lock()
    if _armed:
        _armed = _from_environment()


_lock = threading.Lock()
_armed = _from_environment()
os.register_at_fork(after_in_child=_arm_again)


def reach(name: str) -> None:
    """Go on, or die here as if the power had failed."""
    if not _armed or name not in _armed:
        return
    with _lock:
        if _armed[name].strikes():
            os.write(2, f"dies at the failpoint {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
